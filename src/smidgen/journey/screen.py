"""What a run says while it goes: plain sentences, the plan as a table, and one line of progress that moves.

In a terminal the line is redrawn; in a file or a pipe a line is printed now and then, so that a log stays readable.
"""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

QUIET_SECONDS = 15.0
"""Between two progress lines where nobody watches."""


class Screen:
    """The terminal, or silence: `Screen(quiet=True)` says nothing, as ranks but the first do.

    With `stderr` it leaves stdout to what a program may read.
    """

    def __init__(self, quiet: bool = False, stderr: bool = False) -> None:
        self._console = Console(quiet=quiet, stderr=stderr, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._last = 0.0

    def say(self, text: str) -> None:
        """Print one sentence."""
        self._console.print(text, markup=False)

    def show_table(self, title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] = ()) -> None:
        """Print aligned rows."""
        table = Table(title=title or None, title_justify="left", box=None, show_header=bool(columns), pad_edge=False)
        for index in range(max(map(len, rows), default=0)):
            table.add_column(columns[index] if columns else "", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def show_progress(self, record: dict[str, Any]) -> None:
        """Show one training record: how far, how good, how fast, how long yet."""
        if not self._console.quiet:
            self._show(record["share"], _words(record))

    def show_count(self, name: str, done: int, total: int, seconds: float) -> None:
        """Show how many of the items of a task are done, and how long the others will take."""
        share = done / max(1, total)
        left = f"  {_short_time(seconds * (1 - share) / share)} left" if 0 < share < 1 and seconds > 1 else ""
        if not self._console.quiet:
            self._show(share, f"{share:4.0%}  {name}  {done:,} of {total:,}{left}")

    def _show(self, share: float, words: str) -> None:
        now = time.monotonic()
        if self._console.is_terminal:
            live = self._live or Live(console=self._console, refresh_per_second=4, transient=True)
            if self._live is None:
                self._live = live
                live.start()
            line = Table.grid(padding=(0, 2))
            line.add_column(width=12, no_wrap=True)
            line.add_column(no_wrap=True, overflow="crop")
            line.add_row(ProgressBar(total=1.0, completed=share, width=12), words)
            live.update(line)
        elif now - self._last >= QUIET_SECONDS:
            self._last = now
            self.say(words)

    def end_progress(self) -> None:
        """Take the progress line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _words(record: dict[str, Any]) -> str:
    """Return one line about a training record, what a narrow terminal may cut off last."""
    share = record["share"]
    words = [f"{share:4.0%}"]
    if share > 0:
        words.append(f"{_short_time(record['seconds'] * (1 - share) / share)} left")
    words.append(f"loss {record['loss']:.3f}")
    if record.get("bits_per_byte") is not None:
        words.append(f"{record['bits_per_byte']:.3f} bits/byte")
    words.append(f"{record['tokens_per_second']:,.0f} tokens/s")
    if record.get("mfu") is not None:
        words.append(f"MFU {record['mfu']:.0%}")
    return "  ".join([*words, f"step {record['step']:,}"])


def _short_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
