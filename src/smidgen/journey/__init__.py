"""The way from what a person asked to a finished run: the rooms below, in order. Talks to a `Screen`, never prints."""
