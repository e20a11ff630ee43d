"""Budget in, recipe out: every number with its rule and source."""
