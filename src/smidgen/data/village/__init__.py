"""The embedded village: a simulated small world told in varied English, whose truth is known.

`tell(seed, split, index)` is one tale; `documents(...)` is the training mix of stories and conversations about them.
No download, no torch, the same text on every platform. docs/village.md describes the world.
"""

from smidgen.data.village.corpus import VillageConfig, documents
from smidgen.data.village.questions import Question
from smidgen.data.village.tale import Tale, tell

__all__ = ["Question", "Tale", "VillageConfig", "documents", "tell"]
