"""Several options as one argument: what was given on the command line is gathered in the context's object."""

from typing import Any

import click


def gather(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option's value under its name, if it was given; for options with `expose_value=False`."""
    gathered = context.ensure_object(dict)
    if value not in (None, ()):
        gathered[parameter.name] = list(value) if isinstance(value, tuple) else value
