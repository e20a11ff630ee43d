"""A pipeline from its first file to its last shard: passes, decisions between them, symbols, order, shards.

    OUT/
      data/KEY/          token shards and manifest, as `smidgen train OUT` reads them; written last
      tokenizer/         what made the symbols
      pipeline.json      the pipeline, every key resolved
      counts.json        what each step kept, changed and dropped, with samples
      .work/             unfinished work; emptied at the end

The folder OUT/.work/STATE is named after the pipeline, the files it reads and the versions of what reads them. A run
that was killed finds it again and does what is missing; nothing that is finished depends on who did it, or when.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.data.cleaning.exact import ExactConfig
from smidgen.data.cleaning.minhash import NearConfig
from smidgen.data.cleaning.step import Columns, CorpusStep
from smidgen.data.cleaning.steps import build_step
from smidgen.data.documents import Document
from smidgen.data.pipeline.definition import PipelineConfig, SavedTokenizer
from smidgen.data.pipeline.engine import Crew, Engine, crew, do, start
from smidgen.data.pipeline.estimate import estimate
from smidgen.data.pipeline.memory import check_decision, check_room
from smidgen.data.pipeline.order import Order, settle_order
from smidgen.data.pipeline.parts import (
    StoredTable,
    need_arrow,
    read_json,
    record_batches,
    write_columns,
    write_json,
)
from smidgen.data.pipeline.reading import Split
from smidgen.data.pipeline.sources import Listing, list_sources, read_beside
from smidgen.data.pipeline.steps import passes_of, step_names
from smidgen.data.pipeline.tally import Tally, tally_from
from smidgen.data.pipeline.work import READING, Piece, decision_path, encodes_at_once, stage, symbol_dtype
from smidgen.data.sampling import sample_texts
from smidgen.data.shards import FORMAT, MANIFEST, Manifest, Shard
from smidgen.errors import DataError, RunError
from smidgen.runs import RunDirectory, atomic_write
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.bpe import BpeConfig, train_bpe
from smidgen.tokenizers.bytes import ByteConfig, ByteTokenizer
from smidgen.tokenizers.bytes_bpe import train_bytes_bpe
from smidgen.tokenizers.loading import load_tokenizer

PACKAGES = ("daft", "ftfy", "numpy", "pyarrow", "pycld2", "resiliparse", "tokenizers", "alt-profanity-check")
"""What takes part in the result: work begun with other versions of these is begun anew."""
TABLES = 2
"""Changes with what the steps collect: tables of before are not decided on by steps of now."""
PARTS = 2
"""Changes with how encoded parts are written."""
CLUSTERS = 6
_COPIES_SHOWN = 3


@dataclass(frozen=True)
class Telling:
    """How a run says what happens."""

    say: Callable[[str], None] = lambda sentence: None
    """Told once each."""
    progress: Callable[[str, int, int], None] = lambda name, done, total: None
    """Name of the stage, pieces done, pieces in all."""


def prepare_pipeline(
    config: PipelineConfig, out: Path, engine: Engine, telling: Telling | None = None
) -> dict[str, Any]:
    """Carry out a pipeline, or what is missing of it; return its counts. Opens the result if it is there already.

    Raises DataError if a source cannot be read or nothing is left of it, RunError if `out` holds something else,
    ConfigError if workers and decisions would need more memory, or the text between passes more disk, than there is.
    """
    telling = telling or Telling()
    need_arrow()
    start(engine)
    listing = list_sources(config)
    state = _state(config, listing)
    if (counts := _finished(out, state)) is not None:
        shutil.rmtree(out / ".work" / state, ignore_errors=True)  # of a run that was killed while it cleared up
        telling.say(f"{out} is finished already, from the same files by the same pipeline.")
        return counts
    if any(out.glob("data/*/manifest.json")):
        raise RunError(
            f"{out}: holds the result of another pipeline or of other files. Give another --out, or delete it."
        )
    work = out / ".work" / state
    check_room(config, engine, work, estimate(config, listing))
    with RunDirectory(out).lock():
        _sweep(out / ".work", state)
        try:
            with crew(config.model_dump_json(), work, engine) as workers:
                return _Run(config, out, work, engine, workers, telling, listing).conduct()
        except OSError as error:
            raise DataError(f"{out}: cannot be written ({error.strerror or error}). Free some space there.") from None


def _state(config: PipelineConfig, listing: Listing) -> str:
    versions = {name: _version(name) for name in ("smidgen", *PACKAGES)}
    known = [FORMAT, TABLES, PARTS, config.model_dump(mode="json"), listing.state, read_beside(config), versions]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _finished(out: Path, state: str) -> dict[str, Any] | None:
    """Return the counts of a result that is whole. The mark alone says nothing: it is set before the shards come."""
    if not (out / ".work" / f"{state}.finished").is_file() or not (out / "counts.json").is_file():
        return None
    counts = read_json(out / "counts.json")
    return counts if (out / counts["data"] / MANIFEST).is_file() else None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _sweep(work: Path, state: str) -> None:
    """Remove what another pipeline left unfinished, and what killed workers left of this one."""
    for left in work.glob("*"):
        if left.name != state:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    for part in work.glob(f"{state}/**/.*.part"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


@dataclass
class _Run:
    """One pipeline on its way."""

    config: PipelineConfig
    out: Path
    work: Path
    engine: Engine
    workers: Crew
    telling: Telling
    listing: Listing

    def conduct(self) -> dict[str, Any]:
        """Do everything, from wherever an earlier run stopped."""
        if self.listing.passed_over:
            kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(self.listing.passed_over.items()))
            self.telling.say(f"Passed over {self.listing.passed_over.total()} files of other formats: {kinds}.")
        at_once = encodes_at_once(self.config)
        if at_once:
            self._make_tokenizer([], Tally())
        tally, parts = self._clean()
        if not parts:
            raise DataError(f"nothing is left of {self._sources()} after cleaning: {_losses(tally, self._names)}.")
        tokenizer = self._make_tokenizer(parts, tally)
        encoded = [Path(part).stem for part in parts] if at_once else self._encode(parts)
        order = settle_order(self.config, self.work, encoded)
        for note in order.notes:
            self.telling.say(note)
        shards = {side: self._shards(names) for side, names in order.shards.items()}
        manifest = self._manifest(tokenizer, order, shards, tally)
        return self._finish(manifest, order, tally, tokenizer)

    @property
    def _names(self) -> list[str]:
        return step_names(self.config.steps)

    def _sources(self) -> str:
        return ", ".join(source.path for source in self.config.sources)

    def _do(self, name: str, pieces: list[Piece]) -> list[dict[str, Any]]:
        for done in do(pieces, self.work, self.workers):
            self.telling.progress(name, done, len(pieces))
        return [read_json(piece.record(self.work)) for piece in pieces]

    def _clean(self) -> tuple[Tally, list[str]]:
        """Take the corpus through all passes; return what happened and the parts that are left."""
        passes, tally, parts = passes_of(self.config.steps), Tally(), list[str]()
        for turn, this in enumerate(passes):
            if turn == 0 and not self.listing.has_large:
                pieces = [Piece("clean", name, split=split) for name, split in self._splits()]
            else:
                parts = parts if turn else self._read(tally)
                pieces = [Piece("clean", Path(part).stem, turn, part=part) for part in parts]
            parts = self._pass(self._title(turn, len(passes)), pieces, tally)
            self._drop_files(stage("clean", turn - 1) if turn else stage("read"), "*.parquet")
            if this.closing is not None:
                self._decide(this.closing, parts)
                self._drop_files(stage("clean", turn), "*.npz")
        return tally, parts

    def _splits(self) -> list[tuple[str, Split]]:
        return [(f"{number:06d}", split) for number, split in enumerate(self.listing.splits)]

    def _read(self, tally: Tally) -> list[str]:
        """Cut files that only one worker can read into parts for all of them, before the first step."""
        return self._pass("reading", [Piece("read", name, split=split) for name, split in self._splits()], tally)

    def _pass(self, title: str, pieces: list[Piece], tally: Tally) -> list[str]:
        """Have the pieces of a pass done, count what happened, return the parts they made, in order."""
        told = self._do(title, pieces)
        for record in told:
            tally.merge(tally_from(record["tally"]))
        return [part for record in told for part in record["parts"]]

    def _title(self, turn: int, of: int) -> str:
        return "cleaning" if of == 1 else f"cleaning, pass {turn + 1} of {of}"

    def _drop_files(self, folder: str, pattern: str) -> None:
        """Remove what only a finished stage had to read."""
        for path in (self.work / folder).glob(pattern):
            path.unlink()

    def _decide(self, place: int, parts: list[str]) -> None:
        path = decision_path(self.work, place)
        if path.is_file():
            return
        self.telling.progress(f"deciding: {self._names[place]}", 0, 1)
        step = build_step(self.config.steps[place])
        assert isinstance(step, CorpusStep)
        tables = [StoredTable((self.work / part).with_suffix(".npz")) for part in parts]
        check_decision(self.config, place, sum(table.rows for table in tables), self.engine)
        decision = step.decide(tables)
        write_json(path.with_suffix(".json"), clusters_of(decision))
        write_columns(path, decision)

    def _make_tokenizer(self, parts: list[str], tally: Tally) -> Tokenizer:
        folder = self.work / "tokenizer"
        if not folder.is_dir():
            self.telling.progress("tokenizer", 0, 1)
            staging = self.work / f".tokenizer.{os.getpid()}.part"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            self._new_tokenizer(parts, tally).save(staging)
            staging.rename(folder)
        return load_tokenizer(folder)

    def _new_tokenizer(self, parts: list[str], tally: Tally) -> Tokenizer:
        config = self.config.output.tokenizer
        if isinstance(config, SavedTokenizer):
            return load_tokenizer(config.path)
        if isinstance(config, ByteConfig):
            return ByteTokenizer()
        total = sum(amount.bytes for amount in tally.cleaned.sources.values())
        records = record_batches(self.work / part for part in parts)
        texts = sample_texts((Document(text=record.text) for record in records), config.sample_bytes, total)
        made, notes = train_bpe(texts, config) if isinstance(config, BpeConfig) else train_bytes_bpe(texts, config)
        for note in notes:
            self.telling.say(note)
        return made

    def _encode(self, parts: list[str]) -> list[str]:
        pieces = [Piece("encode", Path(part).stem, part=part) for part in parts]
        self._do("encoding", pieces)
        self._drop_files(str(Path(parts[0]).parent), "*.parquet")
        return [piece.name for piece in pieces]

    def _shards(self, names: list[str]) -> list[Shard]:
        return [Shard(**told) for told in self._do("shards", [Piece("shard", name) for name in names])]

    def _manifest(self, tokenizer: Tokenizer, order: Order, shards: dict[Any, list[Shard]], tally: Tally) -> Manifest:
        read = sum((amount.documents for amount in tally.read.sources.values()), 0)
        copies = sum(
            amount.documents
            for place, config in enumerate(self.config.steps)
            if isinstance(config, ExactConfig | NearConfig)
            for amount in tally.of(place).dropped.values()
        )
        content = [shard.sha256 for side in ("train", "validation") for shard in shards[side]]
        return Manifest(
            dtype=symbol_dtype(tokenizer),
            vocab_size=tokenizer.vocab_size,
            tokenizer=tokenizer.fingerprint(),
            source=hashlib.sha256("\n".join(["pipeline", *content]).encode()).hexdigest(),
            documents_read=read,
            duplicates=copies,
            text_bytes_read=sum((amount.bytes for amount in tally.read.sources.values()), 0),
            validation_fraction=order.validation_fraction,
            keep_fraction=1.0,
            notes=order.notes,
            sources=order.sources,
            train=shards["train"],
            validation=shards["validation"],
        )

    def _finish(self, manifest: Manifest, order: Order, tally: Tally, tokenizer: Tokenizer) -> dict[str, Any]:
        """Put the result together; the shards come last, because a folder that has them is finished."""
        counts = self._counts(manifest, order, tally, tokenizer)
        made, shards = self.out / "tokenizer", self.work / "shard"
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(self.work / "tokenizer", made)
        write_json(self.out / "pipeline.json", self.config.model_dump(mode="json"))
        write_json(self.out / "counts.json", counts)
        for left in shards.glob("*.json"):
            left.unlink()
        atomic_write(shards / MANIFEST, manifest.model_dump_json(indent=1))
        target = self.out / "data" / manifest.source[:16]
        target.parent.mkdir(exist_ok=True)
        self.work.with_suffix(".finished").touch()
        shards.rename(target)
        shutil.rmtree(self.work)
        return counts

    def _counts(self, manifest: Manifest, order: Order, tally: Tally, tokenizer: Tokenizer) -> dict[str, Any]:
        told = tally.as_dict()
        steps = []
        for place, name in enumerate(["read", *self._names], start=READING):
            config = None if place == READING else self.config.steps[place].model_dump(mode="json")
            clusters = self._clusters(place, told["excerpts"])
            steps.append({"name": name, "config": config, **told["steps"].get(str(place), _NOTHING), **clusters})
        return {
            "name": self.config.name,
            "files": len({split.path for split in self.listing.splits}),
            "file_bytes": self.listing.file_bytes,
            "passed_over": dict(sorted(self.listing.passed_over.items())),
            "read": told["read"],
            "cleaned": told["cleaned"],
            "steps": steps,
            "sources": [source.model_dump(mode="json") for source in manifest.sources],
            "tokenizer": {"type": self.config.output.tokenizer.type, "vocab_size": tokenizer.vocab_size},
            "train": _side(manifest.train),
            "validation": _side(manifest.validation),
            "packing": {"seq_len": self.config.output.seq_len, "fill": order.fill},
            "notes": manifest.notes,
            "data": f"data/{manifest.source[:16]}",
        }

    def _clusters(self, place: int, excerpts: dict[str, Any]) -> dict[str, Any]:
        path = decision_path(self.work, place).with_suffix(".json")
        if place == READING or not path.is_file():
            return {}
        found = read_json(path)
        for cluster in found["clusters"]:
            cluster["shown"] = [excerpts[key] for key in cluster.pop("keys") if key in excerpts]
        return {"clusters": found["clusters"], "cluster_sizes": found["sizes"]}


_NOTHING = {"kept": [0, 0], "dropped": {}, "changed": {}, "samples": {}}


def clusters_of(decision: Columns) -> dict[str, Any]:
    """Return how large the clusters of a decision about whole documents are, and the keys of some to show.

    Other decisions, such as which lines are boilerplate, have none.
    """
    if "key" not in decision or "of" not in decision or not len(decision["key"]):
        return {"clusters": [], "sizes": {}}
    owner, copies = np.unique(decision["of"], return_counts=True)
    sizes, times = np.unique(copies + 1, return_counts=True)
    largest = np.lexsort((owner, -copies))[:CLUSTERS]
    clusters = []
    for at in largest.tolist():
        members = np.sort(decision["key"][decision["of"] == owner[at]])[:_COPIES_SHOWN]
        keys = [f"{int(key):016x}" for key in (owner[at], *members)]
        clusters.append({"documents": int(copies[at]) + 1, "keys": keys})
    return {"clusters": clusters, "sizes": {str(s): int(n) for s, n in zip(sizes, times, strict=True)}}


def _side(shards: list[Shard]) -> dict[str, int]:
    return {
        "shards": len(shards),
        "documents": sum(shard.documents for shard in shards),
        "bytes": sum(shard.text_bytes for shard in shards),
        "symbols": sum(shard.symbols for shard in shards),
    }


def _losses(tally: Tally, names: list[str]) -> str:
    """Return the five most frequent reasons for which documents went."""
    reasons = [
        (amount.documents, f"{(['read', *names])[place + 1]}: {reason}")
        for place, step in tally.steps.items()
        for reason, amount in step.dropped.items()
    ]
    told = [f"{number:,} {reason}" for number, reason in sorted(reasons, key=lambda pair: (-pair[0], pair[1]))[:5]]
    return ", ".join(told) or "there were no documents"
