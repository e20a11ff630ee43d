"""The tiny suite: the small evaluation sets everybody reports, with the very prompts of lm-evaluation-harness."""
