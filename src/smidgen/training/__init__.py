"""One loop, three seams: an iterator of batches, an objective, and surgery done before."""
