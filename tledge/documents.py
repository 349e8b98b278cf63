"""Documents to JSON and back: what `--json` prints and what a run folder keeps."""

from __future__ import annotations

import json
import math
import types
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tledge.errors import TledgeError

Record = TypeVar("Record")


def to_json(document: Any) -> str:
    """Return a dataclass as one JSON object; file names that are no valid text survive as escapes, NaN becomes null."""
    return dumps(asdict(document))


def plain(document: Any) -> dict[str, Any]:
    """Return a dataclass as the dictionary that its JSON reads back as."""
    return json.loads(to_json(document))


def dumps(plain: dict[str, Any]) -> str:
    """Return a dictionary of plain values as one JSON object, in the same way."""
    return json.dumps(_plain(plain), indent=2, allow_nan=False) + "\n"


def read(path: Path, kind: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON object in `path`, which must be a `kind` that holds `keys`. Raises TledgeError otherwise."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise TledgeError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except (ValueError, RecursionError) as error:  # the latter when brackets are nested without end
        raise TledgeError(f"{path} is not a {kind}: it holds no JSON.", "Check the path.") from error
    missing = [key for key in keys if not isinstance(document, dict) or key not in document]
    if missing:
        raise TledgeError(f"{path} is not a {kind}: '{missing[0]}' is missing.", "Check the path.")
    return document


def typed(kind: type[Record], values: dict[str, Any]) -> Record:
    """Return the dataclass `kind` made of `values` out of JSON, whose types must be those of its fields.

    Fields may be plain values, one of several words, tuples of plain values, dataclasses of these, or any of these or
    None. A list becomes a tuple, a whole number a float, and an object a dataclass where the field says so. Raises
    ValueError that names the field.
    """
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints or not _is(value, hints[name]):
            raise ValueError(name)
    return kind(**{name: _shaped(value, hints[name]) for name, value in values.items()})


def _is(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_is(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_is(each, inner[0]) for each in value)
    if hint is float:
        return type(value) in (int, float)
    if is_dataclass(hint):
        return isinstance(value, dict)
    return value is None if hint is types.NoneType else type(value) is hint


def _shaped(value: Any, hint: Any) -> Any:
    if isinstance(value, dict):
        return typed(next(each for each in (hint, *get_args(hint)) if is_dataclass(each)), value)
    if isinstance(value, list):
        return tuple(value)
    return float(value) if type(value) is int and float in (hint, *get_args(hint)) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
