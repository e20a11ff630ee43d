"""Web pages to text: the extractor of Resiliparse (Bevendorff et al. 2018), fast and kept well.

Text that is no page passes untouched, so the step can stand before every source. Menus and footers that the extractor
leaves are lines, for `boilerplate` and the quality rules.
"""

import html
import re
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from smidgen.config import Config
from smidgen.data.cleaning.step import Dropped, Kept, Verdict
from smidgen.errors import MissingExtraError
from smidgen.tokenizers.bytes import text_bytes

if TYPE_CHECKING:
    from types import ModuleType

_TAG = re.compile(
    r"</?(?:html|head|body|div|span|p|br|a|ul|ol|li|table|tr|td|th|h[1-6]|b|i|em|strong|script|style|img|meta|link|font|"
    r"section|article|nav|footer|header|form|input|title)\b[^<>]{0,2000}>",
    re.IGNORECASE,
)
_PAGE = re.compile(r"\s{0,200}(?:<!--.{0,2000}?-->\s*)?(?:<!doctype\s+html|<html\b|<head\b|<body\b)", re.I | re.S)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]{2,31});")
_NBSP = re.compile("\u00a0")


class HtmlConfig(Config):
    """Which texts are pages, and how much of a page is text."""

    type: Literal["html"] = "html"
    when: Literal["page", "always"] = "page"
    """`page`: texts that begin as a web page does, or in which tags are frequent; `always`: all of them."""
    tags_per_kilobyte: float = 5.0
    """From so many known tags in a thousand characters a text is a page; text about HTML has fewer."""
    main_content: bool = True
    """Leave out what looks like navigation, forms and footers."""
    entities: bool = True
    """Decode entities (&amp;amp;) that were left in a text that is no page."""


class Html:
    """Extracts the text of pages."""

    name = "html"

    def __init__(self, config: HtmlConfig) -> None:
        self.config = config

    @cached_property
    def _html2text(self) -> "ModuleType":
        try:
            from resiliparse.extract import html2text
        except ImportError:
            raise MissingExtraError("Reading web pages", "data") from None
        return html2text

    def __call__(self, text: str) -> Verdict:
        """Return the text of a page, paragraphs set apart by blank lines; a page without any is dropped."""
        if self.config.when == "page" and not self.is_page(text):
            return self._decoded(text)
        whole = text if text.isascii() else text_bytes(text).decode("utf-8", "replace")  # it refuses lone surrogates
        plain = self._html2text.extract_plain_text(
            whole, preserve_formatting=True, main_content=self.config.main_content, alt_texts=False, list_bullets=True
        )
        plain = _NBSP.sub(" ", plain).strip()
        if not plain:
            return Dropped("html:no_text", f"{len(text)} characters of markup")
        return Kept(plain, {"html:page": 1})

    def is_page(self, text: str) -> bool:
        """Return whether a text is markup; what has no `<` is not."""
        if "<" not in text:
            return False
        return bool(_PAGE.match(text)) or len(_TAG.findall(text)) * 1000 > self.config.tags_per_kilobyte * len(text)

    def _decoded(self, text: str) -> Verdict:
        if not self.config.entities or "&" not in text or not _ENTITY.search(text):
            return Kept(text)
        decoded = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
        return Kept(decoded, {"html:entities": 1} if decoded != text else {})
