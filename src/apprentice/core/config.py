"""Recipes: TOML and `--set a.b=c` over typed defaults, which are nested frozen dataclasses.

    defaults  <  keys of the TOML file  <  `--set key=value`, from left to right

Every value remembers where it came from, so that an error names the key, what is wrong, and the file or option to mend. An
unknown key is an error naming the nearest valid one; nothing is renamed or dropped silently. A dataclass checks its own
ranges in `__post_init__` and raises ValueError with the field's name in front ("lr must be above 0").

The value of `--set` is read as TOML (`3e-4`, `true`, `[1, 2]`); what is no TOML is text, so quotes are not needed. Where a
field may be None, `none` says so. Numbers are finite. Left out: interpolation, includes, environment variables.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from apprentice.core.errors import ConfigError

T = TypeVar("T")


class _Given(NamedTuple):
    """A value that was given, and where."""

    value: Any
    origin: str


def load(cls: type[T], path: Path | None = None, overrides: Sequence[str] = (), *, defaults: T | None = None) -> T:
    """An instance of the dataclass. `defaults`: an instance to start from. Raises: ConfigError."""
    given: dict[str, _Given] = {}
    if path is not None:
        given.update(_flatten(cls, _read(path), "", f"`{path}`"))
    for text in overrides:
        key, value = _override(cls, text)
        if _nested(_hint(cls, key)) is not None:
            given = {other: entry for other, entry in given.items() if not other.startswith(key + ".")}
        for at, letter in enumerate(key):
            if letter == ".":
                given[key[:at]] = _Given({}, value.origin)
        given[key] = value
    return _build(cls, defaults, "", given)


def to_dict(config: Any) -> dict[str, Any]:
    """The config in the types of JSON, for manifests."""
    return msgspec.json.decode(msgspec.json.encode(config, enc_hook=str))


def resolved_toml(config: Any) -> str:
    """Every key with its value; `load` of this text gives an equal config."""
    return "\n".join(_toml_lines(config, ""))


def keys(cls: type) -> list[str]:
    """All keys of a dataclass and those nested in it, dotted."""
    found: list[str] = []
    for name, hint in _hints(cls).items():
        nested = _nested(hint)
        found += [name] if nested is None else [f"{name}.{key}" for key in keys(nested)]
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read `{path}`: {error.strerror}", hint="check the path of the recipe") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{path}` is not UTF-8 text", hint="a recipe is a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"`{path}` is not valid TOML: {error}", hint="mend that line") from error


def _flatten(cls: type, table: Mapping[str, Any], prefix: str, origin: str) -> Iterator[tuple[str, _Given]]:
    hints = _hints(cls)
    for name, value in table.items():
        key = prefix + name
        nested = _nested(_hint_or_fail(cls, hints, name, prefix, origin))
        if nested is not None and isinstance(value, Mapping):
            yield key, _Given({}, origin)
            yield from _flatten(nested, value, key + ".", origin)
        else:
            yield key, _Given(value, origin)


def _override(cls: type, text: str) -> tuple[str, _Given]:
    key, equals, value = text.partition("=")
    key, value, origin = key.strip(), value.strip(), f"`--set {text}`"
    if not equals or not key:
        raise ConfigError(f"{origin} has no value", hint="write `--set key=value`, for example `--set seed=1`")
    hint = _hint(cls, key, origin)
    if _nested(hint) is not None and value != "none":
        raise ConfigError(f"`{key}` is a group of keys (from {origin})", hint=f"name one: {_listed(cls, key)}")
    return key, _Given(_parse(hint, value), origin)


def _parse(hint: Any, text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    if set(table) != {"value"}:
        return text
    wanted = {str if option is Path else option for option in _options(hint)}
    return text if str in wanted and type(table["value"]) not in {*wanted, list} else table["value"]


def _build(cls: type[T], start: T | None, prefix: str, given: Mapping[str, _Given]) -> T:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast("type[Any]", cls)):
        key, hint = prefix + field.name, _hints(cls)[field.name]
        before = _default(field) if start is None else getattr(start, field.name)
        entry, nested = given.get(key), _nested(hint)
        if entry is not None and (nested is None or not isinstance(entry.value, Mapping)):
            changes[field.name] = _convert(key, hint, entry)
        elif nested is not None and any(other.startswith(key + ".") for other in given):
            changes[field.name] = _build(nested, before if dataclasses.is_dataclass(before) else None, key + ".", given)
        elif nested is not None and entry is not None and not dataclasses.is_dataclass(before):
            changes[field.name] = _build(nested, None, key + ".", given)
        elif before is dataclasses.MISSING:
            raise ConfigError(f"`{key}` is missing", hint=f"give it with `--set {key}=...` or in the recipe")
    try:
        return cls(**changes) if start is None else dataclasses.replace(typing.cast(Any, start), **changes)
    except ValueError as error:
        raise _out_of_range(cls, prefix, given, error) from error


def _convert(key: str, hint: Any, entry: _Given) -> Any:
    value, options = entry.value, _options(hint)
    if value == "none" and type(None) in options:
        return None
    choices = [choice for option in options if typing.get_origin(option) is typing.Literal for choice in typing.get_args(option)]
    if choices and not any(value == choice and type(value) is type(choice) for choice in choices):
        names = ", ".join(f"`{choice}`" for choice in choices)
        raise ConfigError(f"`{key}` is `{value}` (from {entry.origin})", hint=f"it is one of {names}")
    if not _is_finite(value):
        raise ConfigError(f"`{key}` is `{value}` (from {entry.origin})", hint="give a finite number")
    try:
        return msgspec.convert(value, hint, dec_hook=lambda wanted, text: wanted(text))
    except (msgspec.ValidationError, TypeError) as error:
        what = str(error).split(" - at ")[0].replace("Expected", "expected")
        hint = "the recipe that a command starts from shows every key with its kind: `--dry-run`"
        raise ConfigError(f"`{key}`: {what} (from {entry.origin})", hint=hint) from error


def _out_of_range(cls: type, prefix: str, given: Mapping[str, _Given], error: ValueError) -> ConfigError:
    name = str(error).split(" ")[0].strip("`:,")
    message = f"`{prefix}{name}`{str(error)[len(name) :]}" if name in _hints(cls) else f"{prefix.rstrip('.')}: {error}"
    origins = [given[prefix + name].origin] if prefix + name in given else []
    return ConfigError(f"{message} (from {origins[0]})" if origins else message)


def _hint(cls: type, key: str, origin: str = "") -> Any:
    """The type of a dotted key."""
    prefix, owner = "", cls
    *groups, last = key.split(".")
    for name in groups:
        nested = _nested(_hint_or_fail(owner, _hints(owner), name, prefix, origin))
        if nested is None:
            raise ConfigError(f"`{prefix}{name}` has no keys below it (from {origin})", hint=_nearest(cls, key))
        prefix, owner = f"{prefix}{name}.", nested
    if last not in _hints(owner):
        raise ConfigError(f"there is no key `{key}` (from {origin})", hint=_nearest(cls, key))
    return _hints(owner)[last]


def _hint_or_fail(cls: type, hints: Mapping[str, Any], name: str, prefix: str, origin: str) -> Any:
    if name not in hints:
        raise ConfigError(f"there is no key `{prefix}{name}` (from {origin})", hint=_nearest(cls, name, prefix))
    return hints[name]


def _nearest(cls: type, key: str, prefix: str = "") -> str:
    """The valid key most like a wrong one: by its whole, or by its last word in another group."""
    known = [prefix + other for other in keys(cls)] + [prefix + name for name, hint in _hints(cls).items() if _nested(hint)]
    likeness = {
        other: max(_ratio(prefix + key, other), 0.95 * _ratio(key.split(".")[-1], other.split(".")[-1])) for other in known
    }
    best = max(likeness, key=lambda other: likeness[other], default="")
    if best and likeness[best] >= 0.6:
        return f"did you mean `{best}`?"
    return f"the keys are {', '.join(f'`{other}`' for other in sorted(known))}"


def _listed(cls: type, group: str) -> str:
    return ", ".join(f"`{key}`" for key in keys(cls) if key.startswith(group + "."))


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.casefold(), b.casefold()).ratio()


def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _nested(hint: Any) -> type | None:
    """The dataclass that a field holds, also where it may be None."""
    return next((option for option in _options(hint) if isinstance(option, type) and dataclasses.is_dataclass(option)), None)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _is_finite(value: Any) -> bool:
    if isinstance(value, (Mapping, list)):
        return all(_is_finite(part) for part in (value.values() if isinstance(value, Mapping) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _toml_lines(config: Any, prefix: str) -> Iterator[str]:
    groups = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            groups.append((prefix + field.name, value))
        elif value is not None:
            yield f"{field.name} = {_toml(msgspec.to_builtins(value, enc_hook=str))}"
        elif _default(field) is not None:
            yield f'{field.name} = "none"'
    for name, value in groups:
        yield from ("", f"[{name}]", *_toml_lines(value, name + "."))


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower() if isinstance(value, bool) else repr(value)
