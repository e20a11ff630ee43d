"""Documents to token shards to batches. What is done to the text is counted; nothing is dropped in silence."""
