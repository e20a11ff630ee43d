"""Bytes of a file, plain, gzip or zstd by its suffix; a file that ends too soon is an error, never a short text.

And of a web page, packed as its `Content-Encoding` says (RFC 9110, section 8.4).
"""

import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import zstandard

from smidgen.errors import ConfigError, DataError, MissingExtraError

_PACKED_GZIP = 64 << 10
_PACKED_CHUNK = 2 << 10
"""Of a zstd file, at a time: 128 KiB of the same words over and over unpack to 800 MB at once, 2 KiB to 22."""
_UNPACKED_CHUNK = 64 << 10
"""Of a page, at a time: 153 bytes of Brotli may be 192 MiB of zeros."""


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


def unpack_page(packed: bytes, packing: str, name: str, most: int) -> bytes | None:
    """Return a page's bytes, unpacked; None where they are more than `most`.

    Servers call packed what is not: what does not begin as gzip or zstd, or as markup, is the page itself.
    Raises DataError if it breaks off or is not sound, ConfigError for a packing that is not known.
    """
    if packing in ("gzip", "x-gzip"):
        chunks = _inflated(packed, name, 31) if packed[:2] == b"\x1f\x8b" else [packed]
    elif packing == "zstd":
        chunks = _zstd_chunks(BytesIO(packed), name) if packed[:4] == b"\x28\xb5\x2f\xfd" else [packed]
    elif packing == "deflate":
        # zlib's format by the book (RFC 1950, section 2.2), its naked stream by some servers.
        by_the_book = packed[:1] and packed[0] & 15 == 8 and int.from_bytes(packed[:2]) % 31 == 0
        is_page = packed.lstrip()[:1] == b"<"
        chunks = [packed] if is_page else _inflated(packed, name, zlib.MAX_WBITS if by_the_book else -zlib.MAX_WBITS)
    elif packing == "br":
        chunks = _brotli_chunks(packed, name)
    elif packing in ("", "identity"):
        chunks = [packed]
    else:
        raise ConfigError(f"{name}: is packed by {packing}, which is not known.")
    pieces, held = list[bytes](), 0
    for piece in chunks:
        held += len(piece)
        if held > most:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _inflated(packed: bytes, name: str, wbits: int) -> Iterator[bytes]:
    """Unpack one stream of zlib's; what stands behind it does not belong to the page."""
    unpacker = zlib.decompressobj(wbits)
    try:
        while piece := unpacker.decompress(packed, _UNPACKED_CHUNK):
            yield piece
            packed = unpacker.unconsumed_tail
    except zlib.error as error:
        raise DataError(f"{name}: is not sound ({error}).") from None
    if not unpacker.eof:
        raise DataError(f"{name}: is truncated (the stream has no end).")


def _brotli_chunks(packed: bytes, name: str) -> Iterator[bytes]:
    try:
        import brotli
    except ImportError:
        raise MissingExtraError("A page packed by Brotli", "data") from None
    unpacker = brotli.Decompressor()
    try:
        yield unpacker.process(packed, output_buffer_limit=_UNPACKED_CHUNK)
        while not unpacker.is_finished() and not unpacker.can_accept_more_data():
            yield unpacker.process(b"", output_buffer_limit=_UNPACKED_CHUNK)
    except brotli.error as error:
        raise DataError(f"{name}: is not sound ({error}).") from None
    if not unpacker.is_finished():
        raise DataError(f"{name}: is truncated (the Brotli stream has no end).")


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


def _zstd_chunks(file: BinaryIO, path: Path | str) -> Iterator[bytes]:
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
