"""The verbs of the command line, each a thin story over the rooms."""
