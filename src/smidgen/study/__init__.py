"""A study: many runs that differ in what is asked, at equal budgets, and what their differences show.

Every run is an ordinary run of `journey/`, in a process of its own; this room decides which, in which order, and what
may be concluded. It knows nothing of training.
"""
