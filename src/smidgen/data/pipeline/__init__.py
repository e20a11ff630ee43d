"""One plan from messy files to token shards, run by an engine that exists: Daft, on this machine or on a Ray cluster.

The corpus is cut into parts by the files alone, never by the number of workers; every piece of work writes its result
under a temporary name and renames it, so a killed run goes on where it stopped and ends in the same bytes.
"""
