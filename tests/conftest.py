"""Fixture makers shared by the tests: pictures drawn by code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def draw_photo(kind: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw uint8 [size, size, 3]: noisy stripes; `kind` sets hue and angle, chance sets place and brightness."""
    y, x = np.mgrid[:size, :size] / size
    angle, phase = kind * 0.7, rng.uniform(0, 6.3)
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 6.3 * (2 + kind % 4) + phase)
    hue = 0.5 + 0.5 * np.cos(np.array([0.0, 2.1, 4.2]) + kind * 1.3)
    picture = 80 + 60 * hue + 50 * stripes[..., None] * hue + rng.uniform(-25, 25) + rng.normal(0, 18, (size, size, 3))
    return picture.clip(0, 255).astype(np.uint8)


def make_photos(folder: Path, classes: Sequence[str], per_class: int, seed: int = 0, size: int = 48) -> Path:
    """Draw `per_class` pictures into `folder`/class for each class, JPEG and PNG in turn; returns `folder`."""
    rng = np.random.default_rng(seed)
    for kind, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            path = folder / name / f"{number:03}.{('jpg', 'png')[number % 2]}"
            Image.fromarray(draw_photo(kind, rng, size)).save(path)
    return folder
