"""Text to symbol ids and back, exactly. Knows nothing of models and never imports torch."""
