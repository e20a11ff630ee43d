"""The text a model was trained on, read once more to see which items of an evaluation stand in it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from smidgen.data.corpus import Corpus
from smidgen.errors import RunError
from smidgen.evaluation.contamination import Exposure, ItemText, look_for
from smidgen.journey.material import open_material
from smidgen.planning.units import format_bytes, format_time
from smidgen.runs import RunDirectory


def find_exposure(
    source: str | Path, tasks: Mapping[str, Sequence[ItemText]], say: Callable[[str], None]
) -> dict[str, Exposure]:
    """Return, for each task, which of its items stand in the training text of a run, or in a file or folder of text.

    Raises RunError if the run's text is gone, DataError if there is no such text.
    """
    begun = time.monotonic()
    found = look_for(tasks, training_texts(source))
    seconds = time.monotonic() - begun
    if found:
        one = next(iter(found.values()))
        hit = "; ".join(f"{name} {len(e.touched):,} of {e.items:,}" for name, e in found.items() if e.touched)
        say(
            f"Looked for {sum(e.items for e in found.values()):,} items in {one.texts:,} texts of {source} "
            f"({format_bytes(one.text_bytes)}, {format_time(seconds)}): {f'found of {hit}' if hit else 'none found'}."
        )
        short = sum(len(e.unsearchable) for e in found.values())
        if short:
            have = "1 item has" if short == 1 else f"{short:,} items have"
            say(f"{have} too few words to be looked for and count as not found.")
    return found


def training_texts(source: str | Path) -> Iterator[str]:
    """Yield the texts that a run trained on, or those of a file or folder.

    Raises RunError if the run's text is gone, DataError if there is no such text.
    """
    run = RunDirectory(source)
    if run.has_data:
        yield from open_material(run).training_texts()
        return
    if run.is_started:
        raise RunError(f"{source}: its prepared text is gone. Name the folder its text came from instead.")
    for document in Corpus(Path(source)):
        yield document.text or "\n".join(message.content for message in document.messages)
