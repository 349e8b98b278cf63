"""Claim: from JPEG bytes to a label 1.5 times as fast as Pillow and a default session, never slower than three peers.

    python -m benchmarks.latency [--flowers DIR] [--rounds N] [--json]

The peers, each on the same model file: Pillow, NumPy and an onnxruntime session with nothing set; OpenCV, which reads
large pictures reduced as tledge does, and a session with what guides recommend; OpenVINO with the same OpenCV. fp32 and
int8, pictures of 0.3 and of 2 megapixels, one at a time. Every contender lives in a process of its own, since
onnxruntime's threads spin on after a run, and would spin into the next contender's time. In each round they go over all
pictures one after the other, in turning order, while the others sleep. Ratios are those of the quantiles of all
requests, their intervals 95 % of what comes of drawing rounds again (bootstrap; Efron and Tibshirani 1993, chapter 13).

DIR holds train/ and val/ with a folder per class. Without it, the pictures are those of ELPV. A model is trained on
train/, exported to int8, and asked about pictures of val/: enlarged, with a camera's noise, some 2 bits a pixel.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import datasets, measure, processes, script
from benchmarks.preprocess import save_photograph
from tledge import machine
from tledge.errors import MissingExtra

OURS = "tledge"
BARS = {"Pillow": 1.5, "OpenCV": 1.0, "OpenVINO": 1.0}
SIZES = {"0.3 MP": (640, 480), "2 MP": (1600, 1200)}  # width and height
QUANTILES = {"p50": 0.5, "p99": 0.99}
PICTURES, ROUNDS = 30, 40
_DRAWS = 2000
_REST_S = 0.02  # until the threads of the one before have stopped to spin


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield, for each precision and size, the claims against each peer, the figures behind them, and who agrees."""
    for module, package in (("cv2", "opencv-python-headless"), ("openvino", "openvino")):
        if not importlib.util.find_spec(module):
            raise MissingExtra(f"The package {package}", "peers")
    with processes.workspace() as folder:
        cache = processes.new_cache(folder)
        data = arguments.flowers.resolve() if arguments.flowers else _elpv(folder)
        models = _models(cache, data, folder)
        for size, shape in SIZES.items():
            paths = jpegs(data, folder / size, shape)
            bits = 8 * sum(path.stat().st_size for path in paths) / (len(paths) * shape[0] * shape[1])
            for precision, model in models.items():
                what = f"{precision}, {size} JPEG to label"
                processes.say(f"{what}, {bits:.1f} bits a pixel")
                milliseconds, labels = _measured(cache, model, paths, arguments.rounds)
                yield from compared(what, milliseconds, labels)


# ── Models and pictures ──────────────────────────────────────────────────────────────────────────────────────────────


def _elpv(folder: Path) -> Path:
    return datasets.elpv_split(datasets.elpv(folder / "pictures"), folder / "elpv", seed=0)


def _models(cache: Path, data: Path, folder: Path) -> dict[str, Path]:
    processes.say("training a model")
    run, int8 = folder / "run", folder / "int8.onnx"
    processes.run(processes.tledge("train", data, "--out", run, "--json"), cache)
    words = ("--precision", "int8", "--out", int8, "--min-agreement", "0", "--json")
    processes.run(processes.tledge("export", run, *words), cache)
    return {"fp32": run / "model.onnx", "int8": int8}


def jpegs(data: Path, folder: Path, shape: tuple[int, int], count: int = PICTURES) -> list[Path]:
    """Write `count` JPEG files of `shape` (width, height) into `folder`, evenly from what `data` holds out."""
    folder.mkdir()
    held_out = next(each for each in (data / "val", data / "test") if each.is_dir())
    found = sorted(path for path in held_out.glob("*/*") if path.is_file())
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        with Image.open(found[number * len(found) // count]) as picture:
            paths.append(save_photograph(picture.convert("RGB"), folder / f"{number}.jpg", shape, rng))
    return paths


# ── Measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Contender:
    """One way from bytes to labels, alive in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ready(self) -> None:
        """Wait until it has met every picture once."""
        assert self._line() == "ready"

    def once(self) -> tuple[list[float], list[str]]:
        """Let it go over all pictures; returns milliseconds and labels, in their order."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        found = json.loads(self._line())
        return found["ms"], found["labels"]

    def _line(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise subprocess.CalledProcessError(self._process.wait(), self._process.args)
        return line.strip()


@contextmanager
def contender(way: str, model: Path, paths: Sequence[Path], cache: Path) -> Iterator[Contender]:
    """Start the contender `way` of latency_way.py, and end it with the block."""
    program = Path(__file__).with_name("latency_way.py")
    words = [sys.executable, program, way, model, str(machine.cores()), *paths]
    with processes.start(words, cache) as process:
        yield Contender(process)


def _measured(
    cache: Path, model: Path, paths: Sequence[Path], rounds: int
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Return milliseconds [rounds, pictures] and labels by contender."""
    with ExitStack() as stack:
        alive: dict[str, Contender] = {}
        for way in (OURS, *BARS):
            alive[way] = stack.enter_context(contender(way, model, paths, cache))
            alive[way].ready()
        found: dict[str, list[list[float]]] = {way: [] for way in alive}
        labels: dict[str, list[str]] = {}
        for number in range(rounds + 1):
            for way in alive if number % 2 else reversed(alive):
                time.sleep(_REST_S)
                milliseconds, labels[way] = alive[way].once()
                if number:
                    found[way].append(milliseconds)
        return {way: np.array(each) for way, each in found.items()}, labels


# ── Claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def compared(what: str, milliseconds: dict[str, np.ndarray], labels: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Yield what the milliseconds [rounds, pictures] of all contenders come to, and how often they agree."""
    for peer, bar in BARS.items():
        for name, quantile in QUANTILES.items():
            text = f"{what}, {name}: {peer} over tledge: at least {bar:g}"
            found = ratio_of_quantiles(milliseconds[peer], milliseconds[OURS], quantile)
            yield measure.claim(text, found, at_least=bar, kind="ratio")
    for way, times in milliseconds.items():
        for name, quantile in QUANTILES.items():
            by_round = np.quantile(times, quantile, axis=1)
            figures = (float(np.quantile(times, quantile)), float(by_round.min()), float(by_round.max()))
            yield measure.claim(f"{what}, {name}: ms of {way}", figures)
    for peer in BARS:
        agree = float(np.mean([a == b for a, b in zip(labels[peer], labels[OURS], strict=True)]))
        yield measure.claim(f"{what}: share of pictures to which {peer} gives tledge's label", (agree,) * 3)


def ratio_of_quantiles(a: np.ndarray, b: np.ndarray, quantile: float) -> measure.Spread:
    """Return the quantile of `a` over that of `b`, both [rounds, requests], and its 95 % interval.

    Rounds, not requests, are drawn again, the same of both: what slows the machine lasts longer than a request.
    """

    def of(rounds: np.ndarray | slice) -> float:
        return float(np.quantile(a[rounds], quantile) / np.quantile(b[rounds], quantile))

    rng = np.random.default_rng(0)
    drawn = [of(rng.integers(0, len(a), len(a))) for _ in range(_DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return of(slice(None)), float(low), float(high)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("--flowers", type=Path, metavar="DIR", help="pictures of flowers: DIR/train|val/class/…")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"times over all pictures [{ROUNDS}]")


if __name__ == "__main__":
    script.main("latency", __doc__, claims, add_options)
