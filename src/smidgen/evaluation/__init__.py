"""How good is it: bits per byte, task scores with intervals, health of generated text. Writes no file."""
