"""The laboratory: the self-test, synthetic worlds and experimental arms; nothing but the command line imports it."""
