"""Picture files to measure with, held in memory: a user's own, or some that are drawn here."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tledge import places
from tledge.data.sources.contents import is_picture
from tledge.errors import DataError

_HEAD_BYTES = 18  # tell a picture
_MOST = 64  # that are held in memory
_DRAWN = ((1920, 1080), (640, 480))  # width, height
_DRAWN_EACH = 2
_QUALITY, _NOISE = 90, 6.0  # noise in grey levels


@dataclass(frozen=True, slots=True)
class Pictures:
    """Files to measure with, as (name, bytes of the file). `name` says what they are."""

    name: str
    files: tuple[tuple[str, bytes], ...]


def given(path: Path) -> Pictures:
    """Return the picture file at `path`, or up to 64 of those in a folder, evenly spread over their names.

    Raises DataError when there is none or one cannot be read.
    """
    files = _in_folder(path) if places.is_folder(path) else [path]
    if not files:
        raise DataError(f"{path} holds no pictures.", "Name a picture or a folder of some.")
    chosen = [files[i * len(files) // _MOST] for i in range(_MOST)] if len(files) > _MOST else files
    return Pictures(str(path), tuple((str(file), _content(file)) for file in chosen))


def drawn() -> tuple[Pictures, ...]:
    """Return JPEG files of 2 and of 0.3 megapixels: soft shapes and noise, at the quality and size of a camera's."""
    return tuple(
        Pictures(
            f"drawn {width} × {height}",
            tuple((f"drawn {seed}", _jpeg(_draw(width, height, seed))) for seed in range(_DRAWN_EACH)),
        )
        for width, height in _DRAWN
    )


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return [file for file in files if is_picture(_content(file, _HEAD_BYTES))]


def _content(file: Path, most: int = -1) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise DataError(f"Picture {file} cannot be read: {error.strerror}.", "Check the path.") from error


def _draw(width: int, height: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-20, 20, (6, 3)).astype(np.float32)]
    soft = np.stack([waves[i] + waves[i + 1] * waves[i + 2] for i in range(3)], axis=-1)
    picture = 128 + 50 * soft + _NOISE * rng.standard_normal((height, width, 1), np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
