"""Budget in, recipe out: every number with its rule and source.

`dials.plan` turns two dials into a recipe; `measure` asks the machine, `corpus` the text, `scaling` the literature.
This room trains nothing and writes nothing but the machine's measurements.
"""
