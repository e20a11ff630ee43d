"""Where the rows of the published sets come from: a local folder first, else the hub.

On the hub every data set has a branch of parquet files, `CONFIG/SPLIT/0000.parquet`, whatever its authors uploaded;
they are downloaded once and kept in the hub library's own cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from smidgen.errors import DataError, MissingExtraError, SmidgenError
from smidgen.tasks.files import Files, read_rows, say_on_stderr
from smidgen.tasks.suite.row import Row

PARQUET_BRANCH = "refs/convert/parquet"
"""Where the hub keeps the parquet form of a data set (huggingface.co/docs/dataset-viewer/parquet)."""


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """A set as it was published."""

    folder: str
    """Its folder among the local files; they are called `FOLDER/SPLIT.jsonl`, or .gz, .zst, .csv, .tsv, .parquet."""
    split: str
    """The split that the harness reads."""
    rows: int
    """How many rows it was published with."""
    hub: str
    """Its name on the hub."""
    config: str = "*"
    """Its configuration there; * where it has only one."""
    instead: tuple[str, ...] = ()
    """Splits that are read where only they are there, which is said and noted."""


@dataclass(frozen=True, slots=True)
class OpenedSplit:
    """The files of a split."""

    name: str
    """`arc_easy/test`, which begins the ids of its items."""
    paths: tuple[Path, ...]
    """One file, or several that follow each other."""
    notes: tuple[str, ...] = ()
    """What is not as published."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows, numbered from 0. Raises DataError for a file that is broken, with the place."""
        number = 0
        for path in self.paths:
            for record in read_rows(path):
                yield Row(f"{self.name}/{number}", record, path)
                number += 1


def fetch_from_hub(repository: str, pattern: str) -> Path:
    """Download the parquet files of a data set that match and return the folder they are in.

    Raises MissingExtraError without the extra `hub`, DataError with the reason if the hub gives none.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError(f"Reading {repository} from the hub", "hub") from None
    try:
        return Path(
            snapshot_download(
                repo_id=repository, repo_type="dataset", revision=PARQUET_BRANCH, allow_patterns=[pattern]
            )
        )
    except Exception as error:  # the library raises its own, httpx's and the system's errors, without a common parent
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{reason.partition('. ')[0].rstrip('.')}.") from None


@dataclass(frozen=True)
class Shelf:
    """The local folder, and the hub behind it."""

    folder: Path | None = None
    """The local folder; None if none was named."""
    say: Callable[[str], None] = say_on_stderr
    """Takes a line for the person."""
    fetch: Callable[[str, str], Path] = fetch_from_hub
    """Downloads the files of a data set that match a pattern and returns the folder they are in."""

    def open(self, task: str, published: PublishedSet) -> OpenedSplit:
        """Return the split of a set that the harness reads, or one that stands in for it.

        Raises DataError that says where to put which file if it is neither here nor on the hub.
        """
        if path := self.seek(published.folder, published.split):
            return OpenedSplit(f"{published.folder}/{published.split}", (path,))
        for split in published.instead:
            if path := self.seek(published.folder, split):
                note = f"{split} split, as the {published.split} split of {published.folder} is not here"
                self.say(f"task {task}: measured on the {note}.")
                return OpenedSplit(f"{published.folder}/{split}", (path,), (note,))
        folder = self.download(task, published, f"{published.folder}/{published.split}.jsonl")
        paths = tuple(sorted(folder.glob(f"{published.config}/{published.split}/*.parquet")))
        if not paths or len({path.parent for path in paths}) > 1:
            found = "no" if not paths else "more than one"
            raise DataError(f"task {task}: {published.hub} on the hub has {found} split {published.split}.")
        return OpenedSplit(f"{published.folder}/{published.split}", paths)

    def seek(self, folder: str, split: str) -> Path | None:
        """Return the local file of a split, None if there is none. Raises DataError if the folder itself is missing."""
        if self.folder is not None and not self.folder.is_dir():
            raise DataError(f"{self.folder}: is no folder. --data names the one that holds NAME/SPLIT.jsonl")
        return Files(self.folder, self.say).seek(folder, split)

    def download(self, task: str, published: PublishedSet, wanted: str) -> Path:
        """Return the folder with a set's files from the hub. `wanted` is the local file that would do instead."""
        if self.folder is None:
            missing = f"task {task}: reads {wanted}. Name its folder: --data DIR."
        else:
            missing = f"task {task}: no {wanted} in {self.folder} (nor .gz, .zst, .csv, .tsv, .parquet)."
        self.say(f"{missing} Asking the hub for {published.hub} ...")
        try:
            return self.fetch(published.hub, f"{published.config}/{published.split}/*.parquet")
        except SmidgenError as error:
            raise DataError(f"{missing} Put the rows of {published.hub} there. From the hub: {error}") from None
