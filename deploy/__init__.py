"""What starts MedX: the demo, the embedded parts, set-up and the test command."""
