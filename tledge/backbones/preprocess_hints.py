"""What is known of the pixels that a network of the user's own was trained on: from options, or a JSON file beside it.

The file is called like the network's with .json at its end, or preprocess.json, and holds any of
`{"mean": 127.5, "std": [58.4, 57.1, 57.4], "channel_order": "bgr", "input_size": 224}`; units and order are those of
BackboneOptions. What the options say comes first. `sound` is for networks that hear (sound_hints.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tledge.backbones.recipe import check_pool
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import BackboneOptions, PreprocessSpec

KEYS = ("mean", "std", "channel_order", "input_size")
_KNOWN = (*KEYS, "sound")
SHARED_NAME = "preprocess.json"
LARGEST_INPUT = 4096
_LARGEST_FILE_BYTES = 64 * 1024


def hints(path: Path, options: BackboneOptions) -> BackboneOptions:
    """Return `options`, with what they leave open taken from the JSON file beside the network at `path`, if any.

    Raises BackboneError for a value, from either, that cannot be: a mean that is no number, two numbers for three
    channels, a deviation that is not positive.
    """
    _check(options, "the options")
    file, content = beside(path)
    return _fill(options, _options(content, file)) if file else options


def beside(path: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the JSON file beside the network at `path` that is about it, None where there is none, and its content.

    Raises BackboneError for a file that cannot be read, or has unknown keys.
    """
    for file in _beside(path):
        content = _read(file)
        if content is not None:
            return file, content
    return None, {}


def spec_of(
    options: BackboneOptions,
    height: int,
    width: int,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> PreprocessSpec:
    """Return how pictures are prepared for a network that takes `height` × `width` pixels.

    `mean` and `std`, in the network's order of channels, stand where `options` have none. The spec has them in RGB
    order, whatever order the network takes. Raises BackboneError for a deviation that is not in 0..255 pixel units.
    """
    if options.std and min(options.std) < 1:
        raise BackboneError(
            f"The std of pixels must be in units of 0..255, at least 1, but is {_told(options.std)}.",
            "If mean and std are those of pixels in 0..1, multiply both by 255.",
        )
    mean, std = (_three(values) for values in (options.mean or mean, options.std or std))
    step = -1 if options.channel_order == "bgr" else 1
    return PreprocessSpec(height, width, mean=mean[::step], std=std[::step])


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    numbers = tuple(float(value) for value in values)
    return numbers * 3 if len(numbers) == 1 else numbers


def _beside(path: Path) -> list[Path]:
    folder = path if path.is_dir() else path.parent
    return [path.with_suffix(".json"), folder / SHARED_NAME]


def _read(file: Path) -> dict[str, Any] | None:
    """Return what `file` says, None where it is not there or is about something else (an architecture, say)."""
    try:
        if file.stat().st_size > _LARGEST_FILE_BYTES:
            content = None
        else:
            content = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BackboneError(f"{file} cannot be read as JSON: {error}.", "Correct it, or take it away.") from error
    known = isinstance(content, dict) and not content.keys().isdisjoint(_KNOWN)
    if not known and file.name != SHARED_NAME:
        return None
    if not isinstance(content, dict):
        raise BackboneError(f"{file} must hold an object.", f"It may have the keys {', '.join(_KNOWN)}.")
    for key in content.keys() - set(_KNOWN):
        raise BackboneError(f"{file} has an unknown key {key!r}.", did_you_mean(key, _KNOWN))
    return content


def _options(content: dict[str, Any], file: Path) -> BackboneOptions:
    several = {key: _sequence(content[key]) for key in ("mean", "std") if content.get(key) is not None}
    single = {key: content[key] for key in ("channel_order", "input_size") if content.get(key) is not None}
    return _check(BackboneOptions(**several, **single), str(file))


def _sequence(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _fill(options: BackboneOptions, found: BackboneOptions) -> BackboneOptions:
    return replace(options, **{key: getattr(found, key) for key in KEYS if getattr(options, key) is None})


def _check(options: BackboneOptions, where: str) -> BackboneOptions:
    for key in ("mean", "std"):
        _check_numbers(key, getattr(options, key), where)
    if options.channel_order not in (None, "rgb", "bgr"):
        raise BackboneError(f"channel_order in {where} must be rgb or bgr, but is {options.channel_order!r}.")
    check_pool(options.pool)
    size = options.input_size
    if size is not None and not (type(size) is int and 1 <= size <= LARGEST_INPUT):
        raise BackboneError(f"input_size in {where} must be 1 to {LARGEST_INPUT} pixels, but is {size!r}.")
    return options


def _check_numbers(key: str, values: tuple[Any, ...] | None, where: str) -> None:
    if values is None:
        return
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in values)
    if not numbers or len(values) not in (1, 3):
        raise BackboneError(f"{key} in {where} must be one number, or one for each of three channels: {values!r}.")
    if key == "std" and min(values) <= 0:
        raise BackboneError(f"std in {where} must be above 0, but is {_told(values)}.")


def _told(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
