"""Claim: `tledge.native.resize_normalize` is at least twice as fast as Pillow's `Image.resize`, one thread each.

    python -m benchmarks.resize_normalize [--json]

Both start from decoded pixels in their own memory: Pillow returns a new image, the kernel fills a buffer. Floats are
not compared: Pillow makes none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import measure, script
from tledge import native

BAR, PORTABLE_BAR = 2.0, 1.0
ROUNDS = 40
CALLS = 5
SOURCES = ((640, 480), (1600, 1200))
TARGET = (224, 224)  # width, height
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def picture(width: int, height: int, channels: int) -> np.ndarray:
    """Return uint8 [height, width, 3] or [height, width]: a gradient with noise on it."""
    noise = np.random.default_rng(0).integers(0, 128, (height, width, channels))
    slope = np.linspace(0, 127, width)[None, :, None]
    return (slope + noise).astype(np.uint8).squeeze()


def contenders(image: np.ndarray, interpolation: str) -> dict[str, Callable[[], object]]:
    """Return Pillow and every compiled variant of this machine, each resizing `image` CALLS times.

    Raises AssertionError when a variant is further than one grey level from Pillow: then there is nothing to time.
    """
    pillow, how = Image.fromarray(image), INTERPOLATIONS[interpolation]
    expected = np.asarray(pillow.resize(TARGET, how).convert("RGB")).astype(int)
    compiled = [
        each.name for each in native.variants("resize_normalize") if each.supported and each.name != "reference"
    ]
    chosen = {name: _variant(name, image, interpolation, expected) for name in compiled}
    return {"Pillow": _repeat(lambda: pillow.resize(TARGET, how)), **chosen}


def _variant(name: str, image: np.ndarray, interpolation: str, expected: np.ndarray) -> Callable[[], None]:
    resize, out = native.implementation("resize_normalize", name), np.empty((1, *TARGET[::-1], 3), np.uint8)
    resize([image], out, "stretch", interpolation)
    assert np.abs(expected - out[0]).max() <= 1, f"{name} is not within one grey level of Pillow"
    return _repeat(lambda: resize([image], out, "stretch", interpolation))


def _repeat(call: Callable[[], object]) -> Callable[[], None]:
    def calls() -> None:
        for _ in range(CALLS):
            call()

    return calls


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one claim for each variant, source size, channels and interpolation.

    The portable code, which only a processor without vector units of ours runs, need not be slower than Pillow.
    """
    for (width, height), channels, interpolation in (
        (size, channels, how) for size in SOURCES for channels in (3, 1) for how in INTERPOLATIONS
    ):
        seconds = measure.interleave(contenders(picture(width, height, channels), interpolation), ROUNDS)
        colour = "RGB" if channels == 3 else "grey"
        for name in list(seconds)[1:]:
            bar = PORTABLE_BAR if name == "scalar" else BAR
            text = f"{name}: {bar:g} times Pillow's speed, {interpolation}, {colour} {width}x{height} to 224x224"
            found = measure.ratio(seconds["Pillow"], seconds[name])
            yield measure.claim(text, found, at_least=bar, kind="ratio")


if __name__ == "__main__":
    script.main("resize_normalize", __doc__, claims)
