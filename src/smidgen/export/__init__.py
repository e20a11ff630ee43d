"""Products of a checkpoint for other engines."""
