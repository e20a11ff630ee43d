"""Made text: of templates, the village, a model or players of games; checked, without copies, and told how.

Generators and checks are here; models and players that write are above, in `journey/synthesis.py`.
"""
