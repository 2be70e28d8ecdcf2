"""One module per page: each builds its part of the blocks and wires thin handlers."""
