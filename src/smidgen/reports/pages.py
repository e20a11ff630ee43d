"""What every page is made with: templates, styles and scripts beside this file, nothing to fetch."""

from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

_HERE = Path(__file__).parent


def open_templates() -> jinja2.Environment:
    """Return the templates of all pages. What one is not given is an error; what it is given is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inlined(names: Sequence[str]) -> Markup:
    """Return styles or scripts, one behind the other, as a page holds them."""
    return Markup("".join((_HERE / name).read_text(encoding="utf-8") for name in names))
