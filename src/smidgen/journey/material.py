"""What a run reads: its tokenizer, trained or taken over, and its text as token shards; made once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.checkpoint.atomic import staged_directory
from smidgen.data.corpus import Corpus
from smidgen.data.documents import Document
from smidgen.data.prepare import prepare
from smidgen.data.sampling import sample_texts
from smidgen.data.shards import TokenShards
from smidgen.data.village.corpus import documents as tell_documents
from smidgen.errors import DataError, RunError, TokenizerError
from smidgen.journey.screen import Screen
from smidgen.recipe import PreparedData, Recipe, VillageData
from smidgen.runs import RunDirectory
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.bpe import BpeConfig, train_bpe
from smidgen.tokenizers.bytes import ByteConfig, ByteTokenizer
from smidgen.tokenizers.bytes_bpe import train_bytes_bpe
from smidgen.tokenizers.loading import load_tokenizer

_VILLAGE_SAMPLE_BYTES = 3_000_000
"""Merges are settled early in a world of few thousand words, and telling more would cost a second per megabyte."""


@dataclass(frozen=True)
class Source:
    """Documents, to be read as often as needed, and what is known of them before."""

    documents: Iterable[Document]
    fingerprint: str
    """Decides whether shards made earlier are these documents."""
    text_bytes: int
    """About how many bytes of text there are."""
    is_village: bool = False

    def notes(self) -> list[str]:
        """Return what was passed over in the latest reading."""
        return self.documents.notes() if isinstance(self.documents, Corpus) else []


@dataclass(frozen=True)
class Shared:
    """What runs that are to be compared have in common."""

    text: Path
    """Where their tokenizer and prepared text lie, in a directory laid out as a run's."""
    curve_bytes: int
    """Bytes of held-out text measured each time on the way, the same for every tokenizer."""


@dataclass(frozen=True)
class Material:
    """What a run reads."""

    tokenizer: Tokenizer
    shards: TokenShards

    def facts(self) -> dict[str, Any]:
        """Return what the report tells of the data."""
        manifest, train = self.shards.manifest, self.shards.train
        return {
            "documents": manifest.documents_read,
            "bytes": manifest.text_bytes_read,
            "duplicates": manifest.duplicates,
            "train_documents": len(train.lengths),
            "train_bytes": train.text_bytes,
            "train_symbols": train.symbols,
            "validation_documents": len(self.shards.validation.lengths),
            "validation_bytes": self.shards.validation.text_bytes,
            "bytes_per_symbol": round(train.text_bytes / max(1, train.symbols), 4),
            "conversations": self._has_conversations(),
            "hash": manifest.source,
            "tokenizer": manifest.tokenizer,
        }

    def _has_conversations(self) -> bool:
        """Whether a turn of a conversation begins anywhere in the first million symbols."""
        turn = self._turn()
        if turn is None:
            return False
        train, seen = self.shards.train, 0
        for start, length in zip(train.starts.tolist(), train.lengths.tolist(), strict=True):
            if (train.read(start, length) == turn).any():
                return True
            seen += length
            if seen > 1_000_000:
                break
        return False

    def _turn(self) -> int | None:
        """Return the symbol that begins a turn of a conversation; None if this tokenizer has none."""
        try:
            return self.tokenizer.special_id("<|im_start|>")
        except TokenizerError:
            return None

    def validation_documents(self, max_symbols: int) -> list[list[int]]:
        """Return held-out documents spread evenly over the split, of about so many symbols together, one at least.

        What is longer than its share is cut at the end, so that one book does not stand for everything.
        """
        side = self.shards.validation
        documents = len(side.lengths)
        wanted = max(1, round(documents * min(1.0, max_symbols / max(1, side.symbols))))
        longest = max(2, max_symbols // wanted) if wanted < documents else max(2, max_symbols)
        chosen, left = [], max_symbols
        for index in range(wanted):
            at = index * documents // wanted
            ids = side.read(int(side.starts[at]) + 1, int(side.lengths[at]) - 2)[: min(longest, max(2, left))].tolist()
            chosen.append(ids)
            left -= len(ids)
        return chosen

    def held_out(self, max_bytes: int) -> list[list[int]]:
        """Return held-out documents that are the same bytes whatever the tokenizer, about so many together.

        They are spread evenly over the split; what is longer than its share is cut at a character and encoded anew.
        """
        widths = np.asarray(self.tokenizer.symbol_bytes())
        documents = [np.asarray(ids, dtype=np.int64) for ids in self.shards.validation.documents()]
        total = sum(int(widths[ids].sum()) for ids in documents)
        wanted = max(1, round(len(documents) * min(1.0, max_bytes / max(1, total))))
        most = max(1, max_bytes // wanted)
        chosen = [documents[index * len(documents) // wanted] for index in range(wanted)]
        return [self._cut(ids.tolist(), most if wanted < len(documents) else max_bytes) for ids in chosen]

    def _cut(self, ids: list[int], most: int) -> list[int]:
        """Return at most so many bytes of a document; a conversation, whose turns are marks, stays whole."""
        content = self.tokenizer.decode_bytes(ids)
        if len(content) <= most or self._turn() in ids:
            return ids
        return self.tokenizer.encode(content[:most].decode("utf-8", "ignore").removeprefix(self.tokenizer.text_prefix))

    def training_texts(self) -> Iterator[str]:
        """Yield the training documents as text."""
        for ids in self.shards.train.documents():
            yield self.tokenizer.decode(ids)


def open_source(recipe: Recipe) -> Source:
    """Return the documents a recipe reads. Raises DataError if there are none to be read."""
    data = recipe.data
    if isinstance(data, VillageData):
        told = _Told(data)
        return Source(
            told, f"village {data.world.model_dump_json()} {data.text_bytes}", data.text_bytes, is_village=True
        )
    if isinstance(data, PreparedData):
        material = _open_prepared(data.path)
        shards = material.shards
        return Source(
            _Decoded(material), shards.manifest.source, shards.train.text_bytes + shards.validation.text_bytes
        )
    corpus = Corpus(data.path, data.read)
    return Source(corpus, corpus.fingerprint(), corpus.estimate_text_bytes())


def make_material(
    recipe: Recipe, source: Source, run: RunDirectory, screen: Screen, given: Tokenizer | None
) -> Material:
    """Make tokenizer and shards of a run, or open those it has; `given` is the tokenizer of a model to go on from."""
    if isinstance(recipe.data, PreparedData):
        return _take_prepared(recipe.data.path, run, screen, given)
    if not run.tokenizer.is_dir():
        tokenizer = given or _make_tokenizer(recipe, source, screen)
        with staged_directory(run.tokenizer) as staging:
            tokenizer.save(staging)
    tokenizer = load_tokenizer(run.tokenizer)
    shards = prepare(
        source.documents,
        tokenizer,
        run.data,
        source.fingerprint,
        recipe.data.prepare,
        total_bytes=source.text_bytes,
    )
    for note in [*source.notes(), *shards.manifest.notes]:
        screen.say(note)
    return Material(tokenizer, shards)


def open_material(run: RunDirectory) -> Material:
    """Open what an earlier process of this run made. Raises RunError if there is nothing."""
    made = sorted(path.parent for path in run.data.glob("*/manifest.json"))
    if not made or not run.tokenizer.is_dir():
        raise RunError(
            f"{run.path}: its prepared text is gone. Go on with the run to make it again: smidgen train {run.path}"
        )
    return Material(load_tokenizer(run.tokenizer), TokenShards(made[-1]))


def is_prepared(path: Path) -> bool:
    """Return whether a folder is one that `smidgen data prepare` wrote."""
    return (path / "counts.json").is_file() and RunDirectory(path).has_data


def _open_prepared(path: Path) -> Material:
    if not is_prepared(path):
        raise DataError(
            f"{path}: holds no prepared text. Write it with: smidgen data prepare PIPELINE.toml --out {path}"
        )
    return open_material(RunDirectory(path))


def _take_prepared(path: Path, run: RunDirectory, screen: Screen, given: Tokenizer | None) -> Material:
    """Link prepared shards and their tokenizer into a run. Raises DataError if they are another tokenizer's symbols."""
    if not run.has_data:
        ready = _open_prepared(path)
        if given is not None and given.fingerprint() != ready.shards.manifest.tokenizer:
            raise DataError(
                f"{path}: was prepared with another tokenizer than this model's. Prepare it again with "
                '[output] tokenizer = { type = "saved", path = "MODEL" }.'
            )
        run.adopt_text(RunDirectory(path))
    material = open_material(run)
    for note in material.shards.manifest.notes:
        screen.say(note)
    return material


@dataclass(frozen=True)
class _Decoded:
    """The documents of prepared shards as text again."""

    material: Material

    def __iter__(self) -> Iterator[Document]:
        for text in self.material.training_texts():
            yield Document(text=text)


@dataclass(frozen=True)
class _Told:
    """The village's documents, told anew at every reading."""

    data: VillageData

    def __iter__(self) -> Iterator[Document]:
        return tell_documents(self.data.world, "train", n_bytes=self.data.text_bytes)


def _make_tokenizer(recipe: Recipe, source: Source, screen: Screen) -> Tokenizer:
    config = recipe.tokenizer
    if isinstance(config, ByteConfig):
        return ByteTokenizer()
    if source.is_village:
        texts = sample_texts(source.documents, min(_VILLAGE_SAMPLE_BYTES, config.sample_bytes))
    else:
        texts = sample_texts(source.documents, config.sample_bytes, source.text_bytes)
    tokenizer, notes = train_bpe(texts, config) if isinstance(config, BpeConfig) else train_bytes_bpe(texts, config)
    for note in notes:
        screen.say(note)
    return tokenizer
