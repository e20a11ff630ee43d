"""Drafts to a folder of checked text: what a check refuses and what was written before is dropped, and counted.

OUT/
  drafts.work          what was written so far; a run that was stopped goes on behind it
  text.jsonl           what passed: {"text", "prompt", "number"}, or of games {"messages", "number"}
  provenance.json      generator, seed, prompts, model and counts; what a pipeline puts into its manifest
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data.cleaning.exact import digests
from smidgen.data.cleaning.minhash import Near, agreement
from smidgen.data.cleaning.step import CorpusStep, Dropped, Record
from smidgen.data.cleaning.steps import build_step
from smidgen.data.corpus import PROVENANCE
from smidgen.data.pipeline.parts import read_json, write_json
from smidgen.data.synthetic.spec import Draft, SyntheticConfig, Writer
from smidgen.errors import ConfigError, DataError, RunError
from smidgen.runs import RunDirectory, atomic_write

_BATCH = 16
UNFINISHED = "not finished"
"""Why a document went that did not end."""


class Sieve:
    """Lets through what passes every check and is no copy of what came through before.

    Memory: 16 bytes for each band of a document let through, and its minima; with the defaults about 1 kB.
    """

    def __init__(self, config: SyntheticConfig) -> None:
        self._steps = [build_step(step) for step in config.checks]
        if wide := [step.name for step in self._steps if isinstance(step, CorpusStep)]:
            raise ConfigError(f"checks: '{wide[0]}' needs the whole corpus. Leave it to the pipeline that reads this.")
        self._near = Near(config.near) if config.near else None
        self._seen: set[bytes] = set()
        self._bands: dict[tuple[int, int], list[np.ndarray]] = {}
        self.dropped: Counter[str] = Counter()
        """Drafts by the reason why they went."""

    def sift(self, draft: Draft, number: int) -> Iterator[dict[str, Any] | None]:
        """Yield each document of a draft as it is kept, or None; counts why."""
        for turn in draft.turns:
            talk = [{"role": role, "content": said} for role, said in zip(("user", "assistant"), turn, strict=True)]
            known = self._known(hashlib.blake2b(json.dumps(talk).encode(), digest_size=16).digest())
            self.dropped.update(["exact copy"] if known else [])
            yield None if known else {"messages": talk, "number": number}
        if not draft.turns:
            text = self._sift_text(draft, number)
            yield None if text is None else {"text": text, "prompt": draft.prompt, "number": number}

    def _sift_text(self, draft: Draft, number: int) -> str | None:
        text, reason = draft.text.strip(), "" if draft.finished else UNFINISHED
        for step in self._steps if not reason and text else ():
            assert not isinstance(step, CorpusStep)
            verdict = step(text)
            if isinstance(verdict, Dropped):
                reason = verdict.reason
                break
            text = verdict.text.strip()
        reason = reason or ("" if text else "nothing left") or self._copied(text, number)
        if reason:
            self.dropped[reason] += 1
        return None if reason else text

    def _copied(self, text: str, number: int) -> str:
        """Return how a text is a copy; remember it if it is none."""
        if self._known(digests([text], "case").tobytes()):
            return "exact copy"
        if self._near is not None:
            columns = self._near.collect([Record(str(number), text)])
            for band, minima in zip(columns["bands"].T, columns["minima"], strict=True):
                places = list(enumerate(band.tolist()))
                for other in (one for place in places for one in self._bands.get(place, ())):
                    pair = np.stack([minima, other])
                    if agreement(pair, np.array([0]), np.array([1]))[0] >= self._near.confirmed_from:
                        return "near copy"
                for place in places:
                    self._bands.setdefault(place, []).append(minima)
        return ""

    def _known(self, digest: bytes) -> bool:
        """Return whether this came before; it is known from now on."""
        known = digest in self._seen
        self._seen.add(digest)
        return known


def make_text(
    config: SyntheticConfig, writer: Writer, facts: Mapping[str, Any], out: Path, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Write until enough documents passed, or as many were tried as may be; return what is told of it.

    Raises RunError if the folder holds something else or another process writes it, DataError if nothing passed.
    """
    told = {"name": config.name, "spec": config.model_dump(mode="json", exclude=config.idle), **facts}
    state = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    if (out / PROVENANCE).is_file():
        if read_json(out / PROVENANCE)["state"] != state:
            raise RunError(f"{out}: holds text that was made otherwise. Give another --out, or delete it.")
        return read_json(out / PROVENANCE)
    with RunDirectory(out).lock():
        return _make_text(config, writer, told | {"state": state}, out, progress)


def _make_text(
    config: SyntheticConfig, writer: Writer, told: dict[str, Any], out: Path, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    sieve, lines, written = Sieve(config), list[str](), 0
    most = int(config.documents * config.most_tries)
    for number, draft in enumerate(_drafts(writer, out / "drafts.work", told["state"], most)):
        for row in sieve.sift(draft, number):
            written += 1
            if row is not None:
                lines.append(json.dumps(row, ensure_ascii=False) + "\n")
            if len(lines) == config.documents:
                break
        progress(len(lines), config.documents)
        if len(lines) == config.documents or written >= most:
            break
    if not lines:
        losses = ", ".join(f"{n:,} {reason}" for reason, n in sieve.dropped.most_common(3))
        raise DataError(f"{config.name}: none of {written:,} documents passed ({losses}). See generator and checks.")
    content = "".join(lines)
    atomic_write(out / "text.jsonl", content)
    counts = {"written": written, "kept": len(lines), "dropped": dict(sorted(sieve.dropped.items()))}
    told |= {"counts": counts, "sha256": hashlib.sha256(content.encode()).hexdigest()}
    write_json(out / PROVENANCE, told)
    (out / "drafts.work").unlink()
    return told


def _drafts(writer: Writer, path: Path, state: str, most: int) -> Iterator[Draft]:
    """Yield drafts 0, 1, 2, ...: those that an earlier run left in a file, then new ones, which are added to it."""
    known = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []  # what follows the last line's end broke off
    known = known[1:] if known and known[0] == state.encode() else []
    atomic_write(path, b"".join(line + b"\n" for line in (state.encode(), *known)))
    yield from (Draft.model_validate_json(line) for line in known[:most])
    with path.open("ab") as file:
        for first in range(len(known), most, _BATCH):
            drafts = writer.write(range(first, min(first + _BATCH, most)))
            file.write(b"".join(draft.model_dump_json().encode() + b"\n" for draft in drafts))
            file.flush()
            yield from drafts
