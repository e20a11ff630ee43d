"""Smidgen: super-tiny language models, from a folder of text to something you can talk to."""

__version__ = "0.1.0"
