"""Token shards on disk: flat arrays of symbols to map into memory, and a manifest that says what they are.

    FOLDER/
      manifest.json               written last; a folder without it was never finished
      train-00000.symbols         little-endian uint16 (uint32 from 65,537 symbols of vocabulary on), nothing else
      train-00000.starts.npy      where each document of the shard begins, and where the last one ends
      train-00000.bytes.npy       UTF-8 bytes of text in each document
      validation-00000.symbols    and so on

A document lies whole in one shard, as `eot text eot`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from smidgen.config import Config, validate_config
from smidgen.data.split import Side
from smidgen.errors import ConfigError, DataError

MANIFEST = "manifest.json"
FORMAT = 1


class Shard(Config):
    """One file of symbols."""

    file: str
    """Name of the symbols file, relative to the manifest."""
    symbols: int
    """Symbols in it."""
    documents: int
    """Documents in it."""
    text_bytes: int
    """UTF-8 bytes of text they hold."""
    sha256: str
    """Of the symbols file."""


class Provenance(Config):
    """One source of a prepared corpus."""

    name: str
    """What it is called."""
    license: str
    """As its publisher states it."""
    documents: int
    """Distinct documents of it that were kept."""
    text_bytes: int
    """UTF-8 bytes of text they hold."""
    symbols: int
    """Symbols of it in the shards, repetitions included."""
    epochs: float
    """How often each of its training documents is there, on average."""
    made_by: dict[str, Any] | None = None
    """Of synthetic text: generator, prompts, seed, hash of the model, counts of what its checks dropped."""


class Manifest(Config):
    """What a folder of shards holds and was made from."""

    format: Literal[1] = FORMAT
    """Version of this layout."""
    dtype: Literal["<u2", "<u4"]
    """Of the symbols, as numpy writes it."""
    vocab_size: int
    """Every symbol is below it."""
    tokenizer: str
    """Fingerprint of the tokenizer."""
    source: str
    """Fingerprint of the text it was made from."""
    documents_read: int
    """Documents offered, duplicates included."""
    duplicates: int
    """Documents left out because their content had come before."""
    text_bytes_read: int
    """UTF-8 bytes of the distinct documents offered."""
    validation_fraction: float
    """Share of the documents aimed at for validation."""
    keep_fraction: float
    """Share of the documents taken; below 1 an evenly spread sample."""
    notes: list[str]
    """What a person should be told about it, one line each."""
    sources: tuple[Provenance, ...] = ()
    """Where the text is from, as far as a pipeline knows it."""
    train: list[Shard]
    """What is trained on."""
    validation: list[Shard]
    """What is never trained on."""


class ShardWriter:
    """Writes the documents of one side, opening a new shard whenever one is full; `first` is the first one's number."""

    def __init__(self, folder: Path, side: Side, dtype: str, shard_symbols: int, first: int = 0) -> None:
        self._folder, self._side, self._dtype, self._limit, self._first = folder, side, dtype, shard_symbols, first
        self._file: IO[bytes] | None = None
        self.shards: list[Shard] = []
        self.symbols = 0
        """Symbols written so far, over all shards."""

    def add(self, ids: Sequence[int] | np.ndarray, text_bytes: int) -> None:
        """Append one document."""
        if self._file is None:
            self._name = f"{self._side}-{self._first + len(self.shards):05d}"
            self._file = (self._folder / f"{self._name}.symbols").open("wb")
            self._sha = hashlib.sha256()
            self._starts, self._bytes = [0], []
        data = np.array(ids, dtype=self._dtype).tobytes()
        self._file.write(data)
        self._sha.update(data)
        self._starts.append(self._starts[-1] + len(ids))
        self._bytes.append(text_bytes)
        self.symbols += len(ids)
        if self._starts[-1] >= self._limit:
            self.close()

    def close(self) -> None:
        """Finish the shard at hand."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        np.save(self._folder / f"{self._name}.starts.npy", np.array(self._starts, dtype=np.int64))
        np.save(self._folder / f"{self._name}.bytes.npy", np.array(self._bytes, dtype=np.int64))
        shard = Shard(
            file=f"{self._name}.symbols",
            symbols=self._starts[-1],
            documents=len(self._bytes),
            text_bytes=sum(self._bytes),
            sha256=self._sha.hexdigest(),
        )
        self.shards.append(shard)


class ShardSet:
    """The documents of one side, addressed as if all shards were one array of symbols."""

    def __init__(self, folder: Path, shards: list[Shard], dtype: str) -> None:
        self._shards = shards
        self._maps = [_map_symbols(folder / shard.file, shard, dtype) for shard in shards]
        self._bases = np.cumsum([0, *(shard.symbols for shard in shards)])
        starts = [_load_array(folder, shard, "starts") + base for shard, base in zip(shards, self._bases, strict=False)]
        self.starts = np.concatenate([part[:-1] for part in starts])
        """Address of each document's first symbol."""
        self.lengths = np.concatenate([np.diff(part) for part in starts])
        """Symbols of each document, both boundaries included."""
        self.document_bytes = np.concatenate([_load_array(folder, shard, "bytes") for shard in shards])
        """UTF-8 bytes of text in each document."""

    @property
    def symbols(self) -> int:
        """Symbols in all documents, boundaries included."""
        return int(self._bases[-1])

    @cached_property
    def text_bytes(self) -> int:
        """UTF-8 bytes of text in all documents."""
        return int(self.document_bytes.sum())

    def read(self, start: int, length: int) -> np.ndarray:
        """Return symbols from an address on, as the file has them; they must lie in one shard, as a document does."""
        shard = int(np.searchsorted(self._bases, start, side="right")) - 1 if len(self._maps) > 1 else 0
        local = start - int(self._bases[shard])
        return self._maps[shard][local : local + length]

    def documents(self) -> Iterator[list[int]]:
        """Yield the ids of each document, without its two boundaries."""
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            yield self.read(start + 1, length - 2).tolist()


class TokenShards:
    """A prepared corpus: manifest, training side, validation side.

    Raises DataError if a file is missing, truncated or not what the manifest says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            text = (folder / MANIFEST).read_text(encoding="utf-8")
            self.manifest = validate_config(json.loads(text), Manifest, where=str(folder / MANIFEST))
        except (OSError, ValueError, ConfigError) as error:
            raise DataError(f"{folder}: is not a prepared corpus ({error}). Delete it and prepare again.") from None
        self.train = ShardSet(folder, self.manifest.train, self.manifest.dtype)
        self.validation = ShardSet(folder, self.manifest.validation, self.manifest.dtype)

    def verify(self) -> None:
        """Read every shard and compare its sha256. Raises DataError naming the first that differs."""
        for shard in (*self.manifest.train, *self.manifest.validation):
            with (self.folder / shard.file).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                    raise DataError(
                        f"{self.folder / shard.file}: was changed since it was written. "
                        f"Delete {self.folder} to make it again."
                    )


def _map_symbols(path: Path, shard: Shard, dtype: str) -> np.ndarray:
    expected = shard.symbols * np.dtype(dtype).itemsize
    try:
        found = path.stat().st_size
        if found != expected:
            raise DataError(f"{path}: holds {found:,} bytes instead of {expected:,}. Delete the folder, prepare again.")
        return np.memmap(path, dtype=dtype, mode="r")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Delete the folder and prepare again.") from None


def _load_array(folder: Path, shard: Shard, kind: Literal["starts", "bytes"]) -> np.ndarray:
    path = folder / shard.file.replace(".symbols", f".{kind}.npy")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Delete the folder and prepare again.") from None
    sound = array.shape == (shard.documents + (kind == "starts"),)
    sound = sound and (array[-1] == shard.symbols if kind == "starts" else array.sum() == shard.text_bytes)
    if not sound:
        raise DataError(f"{path}: does not fit its manifest. Delete the folder and prepare again.")
    return array
