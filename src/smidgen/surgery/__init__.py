"""Module in, module out, before the optimizer exists: what is added to a model that is otherwise left alone.

Models know nothing of it, and it knows nothing of losses, text or files.
"""
