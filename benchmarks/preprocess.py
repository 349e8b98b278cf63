"""Claim: from JPEG file to model input 3.5 times as fast as Pillow and NumPy, in little more than decoding takes.

    python -m benchmarks.preprocess [--json] [--photos DIR]

Files of 0.2 and 2 megapixels become 224 × 224, uint8 as tledge's models take them and float32 as most others do, by two
threads that take one file at a time. Beside tledge: Pillow with NumPy; OpenCV (decoded whole, INTER_AREA, its way to
shrink without aliasing) and torchvision (antialiased, by its own JPEG reader) where they are installed; and simplejpeg
that only decodes, whole, and throws the pixels away: tledge has to reach 0.9 of that rate. A large JPEG may be decoded
reduced, so what is compared first is that each gives about the same picture.

The photographs are those of scikit-learn, mirrored and cut at random; for 2 megapixels they are enlarged, and in both
sizes get a camera's noise: some 2 bits a pixel, as photographs have. With --photos, the JPEG files below DIR serve,
scaled to the two sizes and not noised.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from benchmarks import measure, processes, script
from tledge import native, reference
from tledge.decode import decode

BAR, DECODING_BAR = 3.5, 0.9
THREADS = 2
ROUNDS = 25
SIDE = 224
SIZES = {"0.2 MP": ((512, 384), 48), "2 MP": ((1600, 1200), 16)}  # width and height, and how many files
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
MOST_APART = 4.0  # grey levels on average: what other filters, and reduced decoding, may differ by
_QUALITY, _NOISE = 90, 4.0

Load = Callable[[Path, np.ndarray], None]  # a file, and its place in the batch


# ── Photographs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def photographs(folder: Path, source: Path | None, size: tuple[int, int], count: int) -> list[Path]:
    """Write `count` JPEG files of `size` (width, height) into `folder` and return their paths."""
    rng = np.random.default_rng(0)
    originals = _originals(source, count)
    paths = []
    for number in range(count):
        picture = originals[number % len(originals)]
        picture = ImageOps.mirror(picture) if number % 4 > 1 else picture
        noise = _NOISE if source is None else 0
        paths.append(save_photograph(_cut(picture, rng), folder / f"{size[0]}-{number}.jpg", size, rng, noise))
    return paths


def save_photograph(
    picture: Image.Image, path: Path, size: tuple[int, int], rng: np.random.Generator, noise: float = _NOISE
) -> Path:
    """Write `picture`, RGB, cut and scaled to `size` (width, height), as the JPEG file `path`; return `path`.

    `noise` is the standard deviation, in grey levels, of what is added as a camera would.
    """
    scaled = np.asarray(ImageOps.fit(picture, size, Image.Resampling.BICUBIC))
    noisy = scaled + rng.normal(0, noise, (size[1], size[0], 1)) if noise else scaled
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=_QUALITY)
    return path


def _originals(source: Path | None, count: int) -> list[Image.Image]:
    if source is None:
        from sklearn.datasets import load_sample_images

        return [Image.fromarray(pixels) for pixels in load_sample_images().images]
    found = sorted(source.rglob("*.jp*g"), key=lambda path: path.stat().st_size)[-count:]
    return [Image.open(path).convert("RGB") for path in found]


def _cut(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = rng.uniform(0, 0.1, 4)
    width, height = picture.size
    return picture.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))


# ── Contenders ───────────────────────────────────────────────────────────────────────────────────────────────────────


def by_tledge(path: Path, place: np.ndarray) -> None:
    """Decode as much as is needed, and resample into the batch."""
    levels = None if place.dtype == np.uint8 else _levels()
    native.resize_normalize([decode(path, (SIDE, SIDE))], place[None], levels=levels)


@functools.cache
def _levels() -> np.ndarray:
    return reference.levels_of(MEAN, STD)


def by_pillow(path: Path, place: np.ndarray) -> None:
    """Decode and resize with Pillow, normalise with NumPy."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    _put(pixels, place)


def by_opencv(path: Path, place: np.ndarray) -> None:
    """Decode and resize with OpenCV, normalise with NumPy."""
    import cv2

    pixels = cv2.resize(cv2.imread(str(path)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    _put(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), place)


def by_torchvision(path: Path, place: np.ndarray) -> None:
    """Decode, resize and normalise with torchvision."""
    from torchvision.io import ImageReadMode, read_image
    from torchvision.transforms.v2 import functional

    pixels = functional.resize(read_image(str(path), ImageReadMode.RGB), [SIDE, SIDE], antialias=True)
    _put(pixels.numpy().transpose(1, 2, 0), place)


def _put(pixels: np.ndarray, place: np.ndarray) -> None:
    if place.dtype == np.uint8:
        place[...] = pixels
    else:
        scale = np.float32(1) / np.array(STD, np.float32)
        place[...] = ((pixels - np.array(MEAN, np.float32)) * scale).transpose(2, 0, 1)


def by_decoding_alone(path: Path, place: np.ndarray) -> None:
    """Decode the whole picture with simplejpeg and leave `place` as it is."""
    simplejpeg.decode_jpeg(path.read_bytes())


def peers() -> dict[str, Load]:
    """Return the contenders that are installed; say which are not."""
    found: dict[str, Load] = {"Pillow": by_pillow}
    for module, name, load in (("cv2", "OpenCV", by_opencv), ("torchvision", "torchvision", by_torchvision)):
        if importlib.util.find_spec(module):
            found[name] = load
        else:
            processes.say(f"{name} is not installed, and left out")
    if "OpenCV" in found:
        import cv2

        cv2.setNumThreads(1)  # the threads are ours, one file each
    if "torchvision" in found:
        import torch

        torch.set_num_threads(1)
    return found


# ── Claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield, for each size and type, how many times as fast as each peer tledge is."""
    contenders = {"tledge": by_tledge, **peers(), "simplejpeg": by_decoding_alone}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(THREADS) as pool:
        for size, (shape, count) in SIZES.items():
            paths = photographs(Path(folder), arguments.photos, shape, count)
            bits = 8 * sum(path.stat().st_size for path in paths) / (count * shape[0] * shape[1])
            for dtype in (np.uint8, np.float32):
                seconds = _measure(pool, paths, contenders, dtype)
                what = f"{size} ({bits:.1f} bits a pixel) to {np.dtype(dtype)}"
                rate = measure.spread(count / each for each in seconds["tledge"])
                yield measure.claim(f"files a second, {what}, {THREADS} threads", rate)
                for name, times in seconds.items():
                    if name != "tledge":
                        bar = {"Pillow": BAR, "simplejpeg": DECODING_BAR}.get(name)
                        other = "simplejpeg that only decodes" if name == "simplejpeg" else name
                        text = f"{what}: {f'{bar:g} times ' if bar else ''}the speed of {other}"
                        yield measure.claim(text, measure.ratio(times, seconds["tledge"]), at_least=bar, kind="ratio")


def _measure(
    pool: ThreadPoolExecutor, paths: Sequence[Path], contenders: dict[str, Load], dtype: type
) -> dict[str, list[float]]:
    """Return seconds for all files by contender; raises AssertionError when the pictures differ too much."""
    shape = (SIDE, SIDE, 3) if dtype == np.uint8 else (3, SIDE, SIDE)
    batches = {name: np.zeros((len(paths), *shape), dtype) for name in contenders}

    def run(name: str) -> None:
        list(pool.map(contenders[name], paths, batches[name]))

    for name in contenders:
        run(name)
    levels_apart = 1.0 if dtype == np.uint8 else float(np.mean(STD))
    for name, batch in batches.items():
        apart = np.abs(batch.astype(np.float32) - batches["Pillow"]).mean() * levels_apart
        assert name == "simplejpeg" or apart <= MOST_APART, f"{name} is {apart:.1f} grey levels from Pillow"
    return measure.interleave({name: functools.partial(run, name) for name in contenders}, ROUNDS)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, metavar="DIR", help="use the JPEG files below DIR")


if __name__ == "__main__":
    script.main("preprocess", __doc__, claims, _add_options)
