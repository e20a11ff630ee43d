"""What a worker does with one piece of work: clean a part, encode a part, or write a shard.

A worker knows the pipeline file and the folder that all of them share, and nothing of the others. What it returns and
writes is decided by the piece of work alone, so it does not matter who does it, or whether it is done twice.
"""

import errno
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from smidgen.data.cleaning.step import CorpusStep, Dropped, Kept, Record, Step, hash64
from smidgen.data.cleaning.steps import build_step
from smidgen.data.passages import cut_text
from smidgen.data.pipeline.definition import PipelineConfig
from smidgen.data.pipeline.parts import read_columns, read_json, read_part, write_columns, write_json, write_part
from smidgen.data.pipeline.reading import Fault, Mended, Split, read_split
from smidgen.data.pipeline.steps import Pass, passes_of
from smidgen.data.pipeline.tally import Tally, count_verdict
from smidgen.data.shards import ShardWriter
from smidgen.errors import DataError, SmidgenError
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.bpe import BpeConfig
from smidgen.tokenizers.bytes import ByteTokenizer, text_bytes
from smidgen.tokenizers.bytes_bpe import BytesBpeConfig
from smidgen.tokenizers.loading import load_tokenizer

_PIECE_CHARACTERS = 1 << 18
"""A longer text is encoded in pieces cut at paragraphs, as in `prepare.py`."""
_BATCH_CHARACTERS = 2 << 20
READING = -1
"""The place of the reading among the steps."""


@dataclass(frozen=True)
class Piece:
    """One piece of work."""

    kind: Literal["read", "clean", "encode", "shard"]
    name: str
    """Unique among its kind and pass; the name of what it writes."""
    turn: int = 0
    """Which pass over the parts."""
    split: Split | None = None
    """What the first pass reads."""
    part: str | None = None
    """What every later pass reads: a file below the shared folder."""

    def record(self, folder: Path) -> Path:
        """Return where the finished piece is told of."""
        return folder / stage(self.kind, self.turn) / f"{self.name}.json"


def stage(kind: str, turn: int = 0) -> str:
    """Return the folder of all pieces of a kind."""
    return f"pass-{turn}" if kind == "clean" else kind


def piece_from(text: str) -> Piece:
    """Return the piece of work that was sent as text."""
    data = json.loads(text)
    return Piece(**{**data, "split": Split(**data["split"]) if data["split"] else None})


def send(piece: Piece) -> str:
    """Return a piece of work as text."""
    return json.dumps(asdict(piece))


class Worker:
    """Does pieces of work of one pipeline, one at a time."""

    def __init__(self, pipeline: str, folder: str) -> None:
        self._pipeline, self._folder = pipeline, Path(folder)
        self._decisions: dict[int, Any] = {}

    def __call__(self, piece: str) -> str:
        """Do one piece of work; return "" or, for what a person can mend, the reason why it cannot be done."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the engine has a worker on every core already
        try:
            self._do(piece_from(piece))
        except SmidgenError as error:
            return str(error)
        except OSError as error:
            # numpy tells a write that was cut short without a number
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)
            full = " Free some space there; the same command goes on." if is_full else ""
            return f"{error.filename or self._folder}: {error.strerror or error}.{full}"
        return ""

    def _do(self, piece: Piece) -> None:
        if piece.record(self._folder).is_file():
            return
        work = {"read": self._clean, "clean": self._clean, "encode": self._encode, "shard": self._shard}[piece.kind]
        write_json(piece.record(self._folder), work(piece))

    @cached_property
    def _config(self) -> PipelineConfig:
        return PipelineConfig.model_validate_json(self._pipeline)

    @cached_property
    def _passes(self) -> list[Pass]:
        return passes_of(self._config.steps)

    @cached_property
    def _steps(self) -> list[Step | CorpusStep]:
        return [build_step(config) for config in self._config.steps]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer(self._folder / "tokenizer")

    # -- cleaning ------------------------------------------------------------------------------------------------------

    def _clean(self, piece: Piece) -> dict[str, Any]:
        """Take a split or a part through one pass; write what is left of it and what the closing step collected."""
        tally, parts, kept, held = Tally(), list[str](), list[Record](), 0
        this = self._pass(piece)
        is_last = piece.kind == "clean" and this.closing is None
        for record, size in self._judged(piece, this, tally):
            if is_last:
                tally.cleaned.pass_by(record.source, size)
            # What one part becomes stays one part; a file becomes as many as it takes.
            if piece.split is not None and kept and held + size > self._config.part_bytes:
                parts.append(self._write(piece, len(parts), kept))
                kept, held = [], 0
            kept.append(record)
            held += size
        if kept:
            parts.append(self._write(piece, len(parts), kept))
        return {"parts": parts, "tally": tally.as_dict()}

    def _write(self, piece: Piece, number: int, records: list[Record]) -> str:
        name = f"{piece.name}-{number:05d}" if piece.split is not None else piece.name
        path = self._folder / stage(piece.kind, piece.turn) / f"{name}.parquet"
        closing = self._pass(piece).closing
        if piece.kind == "clean" and closing is None and encodes_at_once(self._config):
            self._write_symbols(name, records)  # nobody needs the text again
        else:
            write_part(path, records)
        if closing is not None:
            step = self._steps[closing]
            assert isinstance(step, CorpusStep)
            write_columns(path.with_suffix(".npz"), step.collect(records))
        return str(path.relative_to(self._folder))

    def _pass(self, piece: Piece) -> Pass:
        return self._passes[piece.turn] if piece.kind == "clean" else Pass(None, (), None)

    def _judged(self, piece: Piece, this: Pass, tally: Tally) -> Iterator[tuple[Record, int]]:
        """Yield what is left of each document after the steps of this pass, and its bytes."""
        judges = [(place, self._judge(place, this)) for place in this.places]
        shown = self._shown(this)
        for record, size in self._read(piece, tally):
            if shown and record.key in shown:
                tally.show(record)
            for place, judge in judges:
                verdict = judge(record)
                if isinstance(verdict, Kept) and verdict.text is not record.text and not verdict.text.strip():
                    verdict = Dropped("nothing left")
                size = count_verdict(tally.of(place), record, verdict, size)
                if isinstance(verdict, Dropped):
                    break
                if verdict.text is not record.text:
                    record = replace(record, text=verdict.text)
            else:
                written = _writable(record)
                if size is None or written is not record:
                    size = len(text_bytes(written.text))
                yield written, size

    def _read(self, piece: Piece, tally: Tally) -> Iterator[tuple[Record, int | None]]:
        """Yield the documents of a piece, and their bytes if they had to be counted."""
        if piece.part is not None:
            yield from ((record, None) for record in read_part(self._folder / piece.part))
            return
        assert piece.split is not None
        for item in read_split(piece.split, self._config.document_bytes):
            if isinstance(item, Fault):
                tally.of(READING).drop(item.reason, item.where, item.detail, None, item.times)
            elif isinstance(item, Mended):
                tally.of(READING).change(item.what, item.times)
            else:
                size = len(text_bytes(item.text))
                tally.of(READING).kept.add(size)
                tally.read.pass_by(item.source, size)
                yield item, size

    def _judge(self, place: int, this: Pass) -> Any:
        step = self._steps[place]
        if place != this.opening:
            return lambda record, alone=step: _alone(alone, record)
        if place not in self._decisions:
            assert isinstance(step, CorpusStep)
            self._decisions = {place: step.judge(read_columns(decision_path(self._folder, place)))}
        return self._decisions[place]

    def _shown(self, this: Pass) -> frozenset[int]:
        """Return the keys of documents that the report shows side by side."""
        if this.opening is None:
            return frozenset()
        clusters = read_json(decision_path(self._folder, this.opening).with_suffix(".json"))["clusters"]
        return frozenset(int(key, 16) for cluster in clusters for key in cluster["keys"])

    # -- encoding ------------------------------------------------------------------------------------------------------

    def _encode(self, piece: Piece) -> dict[str, Any]:
        assert piece.part is not None
        self._write_symbols(piece.name, read_part(self._folder / piece.part))
        return {}

    def _write_symbols(self, name: str, records: Iterable[Record]) -> None:
        """Write the symbols of documents, each between its boundaries, and an index of them."""
        sources = [source.name for source in self._config.sources]
        index = list[tuple[int, int, int, int, int]]()
        path = self._folder / "encode" / name
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            for batch in _batches(records):
                found = encode(self._tokenizer, [record.text for record in batch])
                for record, symbols in zip(batch, found, strict=True):
                    file.write(symbols.data)
                    size = len(text_bytes(record.text))
                    index.append((record.key, hash64(record.text), len(symbols), size, sources.index(record.source)))
        part.replace(path.with_suffix(".symbols"))
        columns = np.array(index, dtype=np.uint64).reshape(-1, 5).T
        write_columns(path.with_suffix(".npz"), dict(zip(INDEX, columns, strict=True)))

    # -- shards --------------------------------------------------------------------------------------------------------

    def _shard(self, piece: Piece) -> dict[str, Any]:
        """Gather the documents of one shard from the encoded parts, in the order that was settled."""
        side, _, number = piece.name.partition("-")
        assert side in ("train", "validation")
        order = read_columns(self._folder / "order" / f"{piece.name}.npz")
        names = read_json(self._folder / "order" / "parts.json")
        dtype = symbol_dtype(self._tokenizer)
        final = self._folder / "shard"
        staging = final / f".{piece.name}.{os.getpid()}.part"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        # The boundaries are settled already, so this writer never closes a shard by itself.
        writer = ShardWriter(staging, side, dtype, shard_symbols=1 << 62, first=int(number))
        with _EncodedParts([self._folder / "encode" / f"{name}.symbols" for name in names], self._tokenizer) as parts:
            for part, start, length, size in zip(*(order[name].tolist() for name in ORDER), strict=True):
                writer.add(parts.read(part, start, length), size)
        writer.close()
        for file in staging.iterdir():
            file.replace(final / file.name)
        staging.rmdir()
        return writer.shards[0].model_dump(mode="json")


class _EncodedParts:
    """Encoded parts, read document by document, some of them open at a time.

    Mapped into memory they would be held whole, as the kernel maps what stands around a page too: 1.9 GB by two workers
    at 2 GB of text, where this holds nothing.
    """

    MOST_OPEN = 256

    def __init__(self, paths: Sequence[Path], tokenizer: Tokenizer) -> None:
        self._paths, self._eot = paths, tokenizer.eot_id
        self._dtype, self._stored = np.dtype(symbol_dtype(tokenizer)), np.dtype(part_dtype(tokenizer))
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()

    def __enter__(self) -> "_EncodedParts":
        return self

    def __exit__(self, *error: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def read(self, part: int, start: int, length: int) -> np.ndarray:
        """Return the symbols of one document. Raises DataError if the part is shorter than it was."""
        if part not in self._open:
            if len(self._open) == self.MOST_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[part] = cast(BinaryIO, self._paths[part].open("rb", buffering=0))
        file, size = self._open[part], self._stored.itemsize
        file.seek(start * size)
        data = file.read(length * size)
        if len(data) != length * size:
            raise DataError(f"{self._paths[part]}: is damaged (it ends too soon). Delete its folder and run again.")
        symbols = np.frombuffer(data, self._stored)
        if self._stored != self._dtype:
            symbols = symbols.astype(self._dtype)
            symbols[[0, -1]] = self._eot
        return symbols


INDEX = ("key", "content", "symbols", "bytes", "source")
"""What is known of every encoded document: hash of its id, hash of its text, sizes, place of its source."""
ORDER = ("part", "start", "symbols", "bytes")
"""What a shard is gathered by."""


def decision_path(folder: Path, place: int) -> Path:
    """Return where the decision of a step is."""
    return folder / "decisions" / f"{place}.npz"


def symbol_dtype(tokenizer: Tokenizer) -> Literal["<u2", "<u4"]:
    """Return the type of a vocabulary's symbols on disk."""
    return "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"


def part_dtype(tokenizer: Tokenizer) -> str:
    """Return the type of symbols in encoded parts: bytes need one, for their boundaries are where documents end."""
    return "|u1" if isinstance(tokenizer, ByteTokenizer) else symbol_dtype(tokenizer)


def encodes_at_once(config: PipelineConfig) -> bool:
    """Return whether the last pass can write symbols: not if the vocabulary is learned from what that pass leaves."""
    return not isinstance(config.output.tokenizer, BpeConfig | BytesBpeConfig)


def encode(tokenizer: Tokenizer, texts: list[str]) -> Iterator[np.ndarray]:
    """Yield the symbols of each document between its boundaries, in the type that they have in encoded parts.

    Among bytes a boundary is 0, which stands for it at the ends alone.
    """
    dtype, eot = part_dtype(tokenizer), tokenizer.eot_id
    if isinstance(tokenizer, ByteTokenizer):
        for text in texts:
            data = np.frombuffer(text_bytes(text), np.uint8)
            symbols = np.zeros(len(data) + 2, dtype)
            symbols[1:-1] = data
            yield symbols
        return
    # Cutting would put the prefix of a sentencepiece vocabulary before every piece.
    limit = _PIECE_CHARACTERS if not tokenizer.text_prefix else 1 << 62
    pieces = [list(cut_text(text, limit)) for text in texts]
    encoded = iter(tokenizer.encode_batch([piece for parts in pieces for piece in parts]))
    for parts in pieces:
        ids = [eot]
        for _ in parts:
            ids += next(encoded)
        yield np.array([*ids, eot], dtype)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch, characters = list[Record](), 0
    for record in records:
        batch.append(record)
        characters += len(record.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _writable(record: Record) -> Record:
    """Return a document that can be written: half a pair of surrogates becomes U+FFFD."""
    text = record.text if record.text.isascii() else text_bytes(record.text).decode("utf-8", "replace")
    return record if text == record.text else replace(record, text=text)


def _alone(step: Any, record: Record) -> Kept | Dropped:
    return step(record.text)
