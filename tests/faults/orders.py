"""What tests tell the directed engine: words in a question, and a file in the worker's home."""

KILLS = "kill the worker"
BREAKS = "break"
HOLDS = "hold"
NO_MODEL = "no-model"
