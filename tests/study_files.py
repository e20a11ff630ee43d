"""Study files small enough for tests: the village, bytes, three steps."""

from pathlib import Path

SMOKE = Path(__file__).parent.parent / "recipes" / "smoke.toml"

HEAD = f"""
name = "trial"
recipe = "{SMOKE.as_posix()}"
budget = {{ type = "tokens", tokens = 1536 }}
seeds = [0, 1]
reference = "plain"
validation_bytes = 3000
curve_bytes = 500
"""

PLAIN = """
[[variants]]
name = "plain"
"""

PIECES = """
[[variants]]
name = "pieces of words"
group = "tokenizer"
set = { "tokenizer.type" = "bpe", "tokenizer.vocab_size" = 300, "model.vocab_size" = 300 }
"""


def write(folder: Path, *parts: str) -> Path:
    path = folder / "trial.toml"
    path.write_text("\n".join(parts))
    return path
