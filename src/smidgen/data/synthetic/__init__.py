"""Text that was made: from templates, of the village, or by a model; checked, without copies, and told how it was made.

Generators and checks are here; the model that writes is above, in `journey/synthesis.py`.
"""
