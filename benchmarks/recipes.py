"""Claim: VGG16 frozen under dense layers trains 8 times as fast as in plain Keras, and as accurately.

    python -m benchmarks.recipes [--flowers DIR | --pictures N] [--rounds N] [--json] [PAGE…]

The pages of examples/ are run as they stand, commands and Keras script, each as a whole process, on the same pictures
with the same weights: random ones from a file, since time does not depend on them. They are scaled so that activations
neither fade nor grow, and each filter is centred, so that like trained ones it tells pictures apart. DIR holds train/
and val/ with a folder for each class; without it, pictures are drawn.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure, processes, script

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SPEED_BAR, ACCURACY_BAR_POINTS = 8, 0.5
ROUNDS, PICTURES = 2, 1000
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PUBLISHED = 'weights="imagenet"'
_WEIGHTS = """
import sys
import keras
import numpy as np
network = keras.applications.VGG16(weights=None, include_top=False)
rng, pixel_std, gain = np.random.default_rng(0), 64, 1.2
for number, layer in enumerate(layer for layer in network.layers if layer.weights):
    kernel, bias = layer.get_weights()
    kernel = rng.normal(0, gain * np.sqrt(2 / np.prod(kernel.shape[:3])), kernel.shape) / (1 if number else pixel_std)
    layer.set_weights([kernel - kernel.mean(axis=(0, 1, 2)), bias])
network.save_weights(sys.argv[1])
"""


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of examples/ has people type: commands, word by word; Python with tledge; Python without."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    python: tuple[str, ...]
    plain: str


def read_page(name: str) -> Page:
    """Return the page examples/`name`.md. Raises ValueError when it does not have the two parts of a page."""
    text = (EXAMPLES / f"{name}.md").read_text(encoding="utf-8")
    ours, plain, *others = re.split(r"^## (?:With tledge|In plain .*)$", text, flags=re.MULTILINE)[1:] or ("", "")
    scripts = [code for language, code in _FENCE.findall(plain) if language == "python"]
    blocks = _FENCE.findall(ours)
    lines = "".join(code for language, code in blocks if language == "bash").replace("\\\n", " ").splitlines()
    commands = tuple(tuple(shlex.split(line)) for line in lines if line.strip())
    if others or len(scripts) != 1 or not commands:
        raise ValueError(f"{name}.md must have '## With tledge' with commands, and '## In plain …' with one script")
    return Page(name, commands, tuple(code for language, code in blocks if language == "python"), scripts[0])


def with_weights(page: Page, weights: str, size: int | None = None) -> Page:
    """Return `page` with other weights than the published ones, and pictures of `size` pixels a side.

    `weights` is none (random) or a file. Networks that are files keep their own.
    """
    python = "None" if weights == "none" else repr(weights)
    plain = page.plain.replace(_PUBLISHED, f"weights={python}")
    more = ["--weights", weights]
    if size is not None:
        plain = re.sub(r"^SIZE = \d+$", f"SIZE = {size}", plain, flags=re.MULTILINE)
        more += ["--input-size", str(size)]
    published = _PUBLISHED in page.plain
    commands = tuple((*words, *more) if published and words[1] == "train" else words for words in page.commands)
    return Page(page.name, commands, page.python, plain)


def printed_accuracy(output: str) -> float:
    """Return the last figure that a script printed behind the word accuracy."""
    return float(re.findall(r"accuracy (\d\.\d+)", output)[-1])


# ── Measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield, for each of two pages, the claims on speed and accuracy, and the times behind them."""
    with processes.workspace() as folder:
        processes.run(processes.python(_WEIGHTS, folder / "vgg16.weights.h5"), folder)
        for name in arguments.pages or PAGES:
            PAGES[name](folder, arguments.flowers, arguments.pictures)
            page = with_weights(read_page(name), str(folder / "vgg16.weights.h5"))
            yield from _compared(page, folder, arguments.rounds)


def _compared(page: Page, folder: Path, rounds: int) -> Iterator[dict[str, Any]]:
    """Run both sides in turn; every run of tledge finds the converted backbone, and no features."""
    first = _tledge(page, folder, _cache(folder, None))
    ours, theirs = [], []
    for number in range(rounds):
        sides: list[Callable[[], None]] = [
            lambda: ours.append(_tledge(page, folder, _cache(folder, first.cache))),
            lambda: theirs.append(_plain(page, folder)),
        ]
        for side in sides if number % 2 else reversed(sides):
            side()
    times = [[each.seconds for each in side] for side in (theirs, ours)]
    what = f"{page.name}, {first.pictures} pictures, 10 epochs"
    text = f"{what}: plain Keras over tledge, whole processes, backbone converted before: at least {SPEED_BAR}"
    yield measure.claim(text, measure.ratio(*times), at_least=SPEED_BAR, kind="ratio")
    lead = [100 * (a.accuracy - b.accuracy) for a, b in zip(ours, theirs, strict=True)]
    text = f"{what}: accuracy over that of plain Keras, points, mean: at least -{ACCURACY_BAR_POINTS}"
    yield measure.claim(text, measure.spread(lead, statistics.fmean), at_least=-ACCURACY_BAR_POINTS)
    sides = {"tledge": [each.accuracy for each in ours], "plain Keras": [each.accuracy for each in theirs]}
    for side, accuracies in sides.items():
        yield measure.claim(f"{what}: accuracy of {side}, mean", measure.spread(accuracies, statistics.fmean))
    yield measure.claim(f"{what}: seconds of plain Keras", measure.spread(times[0]))
    yield measure.claim(f"{what}: seconds of tledge, backbone converted before", measure.spread(times[1]))
    yield measure.claim(f"{what}: seconds of tledge, conversion included", measure.spread([first.seconds]))
    for stage in ("extract", "fit"):
        yield measure.claim(f"{what}: seconds of tledge, {stage}", measure.spread(each.stages[stage] for each in ours))
    reuse = _tledge(page, folder, ours[-1].cache)
    yield measure.claim(f"{what}: seconds of tledge, features cached", measure.spread([reuse.seconds]))


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    accuracy: float
    cache: Path
    pictures: int = 0
    stages: dict[str, float] | None = None


def _tledge(page: Page, folder: Path, cache: Path) -> _Run:
    """Run the one command of `page` in `cache`, beside which its data are."""
    ((_, *words),) = page.commands
    words[1] = str(folder / words[1])
    done = processes.run(processes.tledge(*words, "--force", "--json"), cache)
    found = done.document()
    processes.say(f"{page.name}: tledge {done.seconds:.1f} s, accuracy {found['metrics']['accuracy']:.3f}")
    pictures = found["samples"]["train"] + found["samples"]["test"]
    return _Run(done.seconds, found["metrics"]["accuracy"], cache, pictures, found["seconds"])


def _plain(page: Page, folder: Path) -> _Run:
    # Keras draws another order and other first weights in each run, as it does for those who type the page.
    done = processes.run([sys.executable, "-c", page.plain], folder)
    accuracy = printed_accuracy(done.output)
    processes.say(f"{page.name}: plain Keras {done.seconds:.1f} s, accuracy {accuracy:.3f}")
    return _Run(done.seconds, accuracy, folder)


def _cache(folder: Path, known: Path | None) -> Path:
    """Make a cache with the converted backbones of the cache `known`, or an empty one."""
    cache = Path(tempfile.mkdtemp(prefix="cache-", dir=folder))
    if known is not None:
        shutil.copytree(known / "backbones", cache / "backbones")
    return cache


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _flowers(folder: Path, source: Path | None, pictures: int) -> None:
    if source is not None:
        shutil.copytree(source, folder / "flowers")
    else:
        _draw_split(folder / "flowers", ("daisy", "dandelion", "rose", "sunflower", "tulip"), pictures)


def _cats_dogs(folder: Path, source: Path | None, pictures: int) -> None:
    """Lay out two kinds of what there is, the first two of the flowers where they were given."""
    if source is None:
        _draw_split(folder / "cats-dogs", ("cats", "dogs"), pictures)
        return
    for split in ("train", "val"):
        kinds = sorted(place for place in (source / split).iterdir() if place.is_dir())
        for kind, name in zip(kinds[:2], ("cats", "dogs"), strict=True):
            shutil.copytree(kind, folder / "cats-dogs" / split / name)


def _draw_split(folder: Path, classes: Sequence[str], pictures: int) -> None:
    """Draw `pictures` in all, three quarters to train on."""
    for split, count in (("train", pictures * 3 // 4), ("val", pictures // 4)):
        for kind, name in enumerate(classes):
            draw(folder / split / name, kind, count // len(classes), seed=len(split))


def draw(folder: Path, kind: int, count: int, seed: int, size: int = 256) -> None:
    """Draw `count` JPEG pictures of noisy stripes into `folder`; `kind` sets angle and hue, chance the rest."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng((seed, kind))
    y, x = np.mgrid[:size, :size] / size
    for number in range(count):
        angle, waves, phase = kind * 0.6 + rng.normal(0, 0.2), rng.uniform(3, 9), rng.uniform(0, 6.3)
        stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 6.3 * waves + phase)
        hue = 0.5 + 0.5 * np.cos(np.array([0.0, 2.1, 4.2]) + kind + rng.normal(0, 0.5))
        pixels = 110 + rng.uniform(-40, 40) + 60 * stripes[..., None] * hue + rng.normal(0, 30, (size, size, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg")


def _page(name: str) -> str:
    if name not in PAGES:
        raise argparse.ArgumentTypeError(f"there is no page {name} here")
    return name


PAGES: dict[str, Callable[[Path, Path | None, int], None]] = {"vgg16_frozen": _flowers, "vgg16_binary": _cats_dogs}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("pages", nargs="*", type=_page, metavar="PAGE", help=", ".join(PAGES))
    parser.add_argument("--flowers", type=Path, metavar="DIR", help="pictures of flowers: DIR/train|val/class/…")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"how many are drawn otherwise [{PICTURES}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each side [{ROUNDS}]")


if __name__ == "__main__":
    script.main("recipes", __doc__, claims, add_options)
