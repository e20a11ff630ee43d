"""Bytes of a file, plain, gzip or zstd by its suffix; a file that ends too soon is an error, never a short text."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from smidgen.errors import DataError

_PACKED_GZIP = 64 << 10
_PACKED_CHUNK = 2 << 10
"""Of a zstd file, at a time: 128 KiB of the same words over and over unpack to 800 MB at once, 2 KiB to 22."""


def read_chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of a file, decompressed, in chunks of about `chunk_bytes`.

    Raises DataError if the file is missing, may not be read, is truncated or is not what its suffix says.
    """
    try:
        with path.open("rb") as file:
            name = path.name.lower()
            if name.endswith(".zst"):
                yield from _zstd_chunks(file, path)
            elif name.endswith(".gz"):
                yield from _gzip_chunks(file, path, chunk_bytes)
            else:
                yield from iter(lambda: file.read(chunk_bytes), b"")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None


def _gzip_chunks(file: BinaryIO, path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Unpack member by member by hand: `gzip` gives nothing of the last chunk of a file that breaks off."""
    member = None
    try:
        while packed := file.read(_PACKED_GZIP):
            while packed := packed if member else packed.lstrip(b"\0"):  # zeros may fill up a block behind a member
                member = member or zlib.decompressobj(wbits=31)
                if piece := member.decompress(packed, chunk_bytes):
                    yield piece
                packed = member.unused_data if member.eof else member.unconsumed_tail
                member = None if member.eof else member
        while member and (piece := member.decompress(b"", chunk_bytes)):
            yield piece
    except zlib.error as error:
        raise DataError(f"{path}: is not a sound gzip file ({error}).") from None
    if member and not member.eof:
        raise DataError(f"{path}: is truncated (the gzip stream has no end). Fetch or write it again.")


def _zstd_chunks(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Unpack frame by frame by hand: the library's stream reader takes a truncated frame for the end of the file."""
    # 2 GiB of window is what `zstd --long=31` may ask for; memory follows the file's own window, not this limit.
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    frame = None
    try:
        while packed := file.read(_PACKED_CHUNK):
            while packed:
                frame = frame or unpacker.decompressobj()
                yield frame.decompress(packed)
                packed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise DataError(f"{path}: is not a sound zstd file ({error}).") from None
    if frame is not None:
        raise DataError(f"{path}: is truncated (the last zstd frame has no end). Fetch or write it again.")


def packing_ratio(path: Path) -> float:
    """Return unpacked over packed size of the first 256 KiB of a .gz or .zst file; 1 where it cannot be unpacked."""
    with path.open("rb") as file:
        packed = file.read(256 << 10)
    try:
        if path.name.lower().endswith(".zst"):
            unpacked = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj().decompress(packed)
        else:
            unpacked = zlib.decompressobj(wbits=31).decompress(packed)
    except (zstandard.ZstdError, zlib.error):
        return 1.0  # whoever reads the file raises the error with its reason
    return len(unpacked) / max(1, len(packed))
