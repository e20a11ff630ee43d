"""Typed configuration: frozen, strict, TOML in, every error of a file at once.

A config class lives beside the code it configures and derives from `Config`; a choice between variants is a
union of small configs told apart by a `type` field, so that every field has a meaning where it stands. This room
knows how to read, merge, override and explain; it knows no field by name.
"""

import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from smidgen.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every config: immutable, unknown keys refused, field docstrings kept as help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


def load_config(path: Path, cls: type[C], overrides: Iterable[str] = ()) -> C:
    """Read a TOML file (following `extends`), apply `key.path=value` overrides and validate into `cls`.

    Raises ConfigError naming every problem of the file at once.
    """
    data = apply_overrides(read_toml(path), overrides)
    return validate_config(data, cls, where=path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; `extends = "other.toml"` is merged below it (tables deep, lists replaced whole)."""
    return _read_toml(path, seen=())


def _read_toml(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends itself. Remove the circular `extends` line.")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends ({parent!r}) must be the name of one TOML file.")
    return merge(_read_toml(path.parent / parent, (*seen, path.resolve())), data)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `top` laid over it: tables merge key by key, everything else is replaced whole.

    A table whose `type` changes is another variant: it is replaced, because the old one's keys mean nothing to it.
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            same_variant = value.get("type", below.get("type")) == below.get("type")
            merged[key] = merge(below, value) if same_variant else value
        else:
            merged[key] = value
    return merged


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return `data` with each `key.path=value` set; a value is TOML if it parses as TOML, else a string."""
    pairs: list[tuple[str, Any]] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"{override!r} is not an override. Write key.path=value, as in model.stack.d_model=320.")
        try:
            value: Any = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        pairs.append((".".join(keys), value))
    return merge(data, tree_of(pairs))


def tree_of(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return dotted keys and their values as one tree, whatever their order; of the same key the last counts."""
    tree: dict[str, Any] = {}
    for path, value in pairs:
        for key in reversed(path.split(".")):
            value = {key: value}
        tree = _join(tree, value)
    return tree


def _join(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Join two trees said in one breath: a table that only one of them gives a `type` is the same table."""
    joined = dict(one)
    for key, value in other.items():
        below = joined.get(key)
        joined[key] = _join(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return joined


def validate_config(data: Mapping[str, Any], cls: type[C], where: str) -> C:
    """Validate a plain mapping into `cls`; `where` names the source in the error.

    A table goes over what its field sets by default: one key of it does not undo the others. One that says its `type`
    begins from that type's own defaults.
    Raises ConfigError listing every problem, with a near-miss suggestion for unknown keys.
    """
    try:
        # Through JSON so that strings become paths and integers stay integers; strict about everything else.
        return cls.model_validate_json(json.dumps(_over_defaults(data, cls), default=str), strict=True)
    except ValidationError as error:
        lines = [_explain(cls, detail) for detail in error.errors()]
        raise ConfigError(f"{where} is not valid:\n" + "\n".join(f"  {line}" for line in lines)) from None


def _over_defaults(data: Mapping[str, Any], cls: type[BaseModel]) -> dict[str, Any]:
    """Return a table with what its fields set by default below each table of it, all the way down."""
    filled = dict(data)
    for name, field in cls.model_fields.items():
        table = filled.get(name)
        if not isinstance(table, Mapping):
            continue
        kinds = [c for c in _variants(field.annotation) if isinstance(c, type) and issubclass(c, BaseModel)]
        if isinstance(field.default, Config) and "type" not in table:
            table = merge(_set_in(field.default), table)
            kinds = [type(field.default)]
        elif len(kinds) > 1:
            kinds = [kind for kind in kinds if _tag(kind) == table.get("type")]
        filled[name] = _over_defaults(table, kinds[0]) if len(kinds) == 1 else table
    return filled


def _set_in(config: Config) -> dict[str, Any]:
    """Return what a default sets, as a table; of what it chooses, which kind that is."""
    told = config.model_dump(mode="json", exclude_unset=True)
    for name in told:
        value = getattr(config, name)
        if isinstance(value, Config):
            kind = {"type": _tag(type(value))} if "type" in type(value).model_fields else {}
            told[name] = kind | _set_in(value)
    return told


def _explain(cls: type[BaseModel], detail: Any) -> str:
    *parents, last = detail["loc"] or ("",)
    owner, shown = _resolve(cls, parents)
    location = ".".join([*shown, str(last)]).strip(".")
    if detail["type"] == "extra_forbidden":
        names = sorted(owner.model_fields) if owner else []
        near = difflib.get_close_matches(str(last), names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(names)}"
        return f"{location}: unknown key; {hint}"
    if detail["type"] == "union_tag_not_found":
        return f"{location}: several kinds are possible; say which with {location}.type"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] in ("missing", "value_error"):
        return f"{location}: {message}" if location else message
    return f"{location}: {message} (got {detail['input']!r})"


def _resolve(cls: type[BaseModel], path: Iterable[str | int]) -> tuple[type[BaseModel] | None, list[str]]:
    """Follow an error's location through the config tree; union tags are steps but are not shown."""
    choices: list[Any] = [cls]
    shown: list[str] = []
    for part in path:
        if isinstance(part, int):  # a place in a list of configs leads to one of them, not to a field
            shown.append(str(part))
            continue
        owner = next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), None)
        tagged = [c for c in choices if _tag(c) == part]
        if len(choices) > 1 and tagged:
            choices = tagged
            continue
        shown.append(str(part))
        field = owner.model_fields.get(str(part)) if owner else None
        choices = _variants(field.annotation) if field else []
    owner = next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return owner, shown


def _variants(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _variants(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType, list, tuple, dict):
        return [v for a in typing.get_args(annotation) for v in _variants(a)]
    return [annotation]


def _tag(choice: Any) -> Any:
    fields = getattr(choice, "model_fields", {})
    return fields["type"].default if "type" in fields else None
