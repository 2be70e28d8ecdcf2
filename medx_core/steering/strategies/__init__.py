"""How activations are changed: small functions of one form, fitted on recorded states, none of which runs a model."""
