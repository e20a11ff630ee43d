"""One row of a published set, read strictly: what is not as published is one error with file, row and column."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.data.formats import Record
from smidgen.errors import DataError
from smidgen.tasks.choice import Choice, ChoiceItem
from smidgen.tasks.files import field_of, shown


@dataclass(frozen=True, slots=True)
class Row:
    """A row and where it stands. Texts are returned as they are: every space counts where likelihoods are compared."""

    id: str
    """Names the item made of it, `arc_easy/test/17`."""
    record: Record
    """Its columns."""
    path: Path
    """The file."""

    def value(self, column: str) -> Any:
        """Return what stands in a column. Raises DataError, as all of these do, if there is none of that name."""
        return field_of(self.record, self.path, column)

    def text(self, column: str, may_be_empty: bool = False) -> str:
        """Return a text."""
        value = self.value(column)
        if not isinstance(value, str) or not (value.strip() or may_be_empty):
            raise self.error(column, f"must hold text, not {shown(value)}")
        return value

    def texts(self, column: str) -> list[str]:
        """Return a list of texts, none of them empty."""
        return self._texts(column, self.value(column))

    def labelled(self, column: str) -> tuple[list[str], list[str]]:
        """Return texts and their labels: `{"text": [...], "label": [...]}`."""
        value = self.value(column)
        if not isinstance(value, dict) or not {"text", "label"} <= value.keys():
            raise self.error(column, f'must hold {{"text": [...], "label": [...]}}, not {shown(value)}')
        texts, labels = (self._texts(column, value[part]) for part in ("text", "label"))
        if len(texts) != len(labels):
            raise self.error(column, f"has {len(texts)} texts and {len(labels)} labels")
        return texts, labels

    def index(self, column: str, n: int) -> int:
        """Return a whole number from 0 to n - 1, which may be written as text."""
        value = self.value(column)
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if not isinstance(number, int) or not 0 <= number < n:
            raise self.error(column, f"must be a whole number from 0 to {n - 1}, not {shown(value)}")
        return int(number)

    def position(self, column: str, names: Sequence[str], strip: bool = False) -> int:
        """Return where the text of a column stands among some names; a name of digits may be written as a number."""
        value = self.value(column)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        name = str(value) if is_number else value.lstrip() if strip and isinstance(value, str) else value
        if name not in names:
            raise self.error(column, f"must be one of {', '.join(names)}, not {shown(value)}")
        return names.index(name)

    def error(self, column: str, problem: str) -> DataError:
        """Return the error for a column that does not hold what it should."""
        return DataError(f"{self.path.parent / self.record.where}: column '{column}' {problem}.")

    def _texts(self, column: str, value: Any) -> list[str]:
        if not isinstance(value, list) or not value:
            raise self.error(column, f"must hold a list of texts, not {shown(value)}")
        for number, text in enumerate(value):
            if not isinstance(text, str) or not text.strip():
                raise self.error(column, f"must hold texts, and number {number} of them is {shown(text)}")
        return value


def among(row: Row, context: str, texts: Sequence[str], right: int, kind: str = "") -> ChoiceItem:
    """Return the item in which each text, behind a space, may follow the context.

    The space is the harness's `target_delimiter`; the lengths of the normalized score do not count it.
    """
    choices = tuple(Choice(context, f" {text}") for text in texts)
    return ChoiceItem(row.id, kind, choices, right, tuple(map(len, texts)))
