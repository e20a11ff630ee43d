"""Web archives (WARC 1.0 and 1.1, plain or packed): the pages a crawl brought home, and everything else it noted.

Answers that are pages come as their markup, for the step `html`; texts that another program made of pages (WET files)
as they are. Records of other kinds are counted, not read.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.data.compression import read_chunks, unpack_page
from smidgen.data.formats import BLOCK_BYTES
from smidgen.data.pipeline.items import Fault, Item, Split, page_of
from smidgen.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord

ARCHIVE = re.compile(r"\.(warc|wet)(\.gz|\.zst)?$", re.IGNORECASE)
_OTHERS = ("warcinfo", "request", "metadata", "revisit", "continuation")
_PACKINGS = ("gzip", "x-gzip", "deflate", "br", "zstd")
"""What is unpacked. Crawls mostly did so before they wrote; those made with a browser keep what came."""
_NOT_PACKED = ("", "identity", "none", "utf-8", "utf8", "iso-8859-1", "binary", "text", "text/html", "8bit", "7bit")
"""What servers also say of a page that is not packed."""
_PAGES = ("text/html", "application/xhtml+xml", "text/plain")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]{2,40})""", re.IGNORECASE)


def read_archive(path: Path, split: Split, document_bytes: int) -> Iterator[Item]:
    """Yield the pages of an archive, and what else there is in it; what follows a damaged record is lost, and told.

    Raises DataError if the file is no archive or breaks off.
    """
    try:
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed
    except ImportError:
        raise MissingExtraError(f"Reading {path.name}", "data") from None
    # Unpacked here, because the library takes a packed stream that breaks off for the end of the file.
    source = _Stream(read_chunks(path, BLOCK_BYTES))
    stream = io.BufferedReader(source)
    begin = stream.peek(5)[:5]
    if begin and begin != b"WARC/":
        raise DataError(f"{path}: is not a WARC file (it begins with {begin!r}).")
    number, records = 0, iter(ArchiveIterator(stream))
    while True:
        # The library tells damage in many ways, a header that breaks off as an AttributeError of its own.
        try:
            record = next(records, None)
        except (ArchiveLoadFailed, AttributeError, ValueError, EOFError) as error:
            if source.error is not None:
                raise source.error from None
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{path}: is damaged after record {number} ({reason}).") from None
        if record is None:
            break
        number += 1
        yield _read(record, f"{split.place}:{number}", split, document_bytes)
    if source.error is not None:
        raise source.error


def _read(record: "ArcWarcRecord", place: str, split: Split, document_bytes: int) -> Item:
    headers: Any = record.http_headers
    address = record.rec_headers.get_header("WARC-Target-URI") or ""
    if record.rec_type is None:
        return Fault("record breaks off", place)
    if record.rec_type not in ("response", "resource", "conversion"):
        other = record.rec_type if record.rec_type in _OTHERS else "a record of another kind"
        return Fault(f"not a page: {other}", place, f"{record.rec_type[:40]} {address}")
    told = headers.get_header("Content-Type") if headers else record.content_type
    kind = (told or "").partition(";")[0].strip().lower()
    if headers and headers.get_statuscode() != "200":
        return Fault("not a page: answered without one", place, f"{headers.get_statuscode()} {address}")
    if kind not in _PAGES:
        return Fault("not a page: another content type", place, f"{kind or 'none told'} {address}")
    packing = (headers.get_header("Content-Encoding") or "" if headers else "").strip().lower()
    if packing not in _PACKINGS and packing not in _NOT_PACKED:
        return Fault("page packed in a way that is not read", place, f"{packing} {address}")
    data = _body(record, 4 * document_bytes)
    if data is not None and getattr(record.raw_stream, "limit", 0) > 0:
        return Fault("record breaks off", place, address)
    try:
        if data is not None and packing in _PACKINGS:
            # Here, because the library gives what came before the damage of a packed page as the page.
            data = unpack_page(data, packing, "the page", 4 * document_bytes)
    except DataError as error:
        return Fault("page cannot be unpacked", place, f"{str(error)[:80]} {address}")
    if data is None:
        return Fault("longer than document_bytes", place, address)
    charset = _CHARSET.search(told or "")
    return page_of(data, charset[1] if charset else None, place, split)


def _body(record: "ArcWarcRecord", most: int) -> bytes | None:
    """Return what a record holds, transfer encoding undone; None if it is longer than `most`."""
    from warcio.bufferedreaders import ChunkedDataReader

    headers: Any = record.http_headers
    stream: Any = record.raw_stream
    if headers and (headers.get_header("Transfer-Encoding") or "").strip().lower() == "chunked":
        stream = ChunkedDataReader(stream)
    pieces, held = list[bytes](), 0
    while piece := stream.read(1 << 16):
        pieces.append(piece)
        held += len(piece)
        if held > most:
            return None
    return b"".join(pieces)


class _Stream(io.RawIOBase):
    """Chunks as a stream that ends where they break off, so that what came before the break is read to its end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""
        self.error: DataError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            try:
                chunk = next(self._chunks, None)
            except DataError as error:
                self.error, chunk = error, None
            if chunk is None:
                return 0
            self._left = chunk
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
