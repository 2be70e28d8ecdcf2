"""Running statements through a model to read, or change, what happens inside it."""
