"""Claim: calibration takes a tenth of onnxruntime's time, the same ranges, and no more memory for more pictures.

    python -m benchmarks.calibrate [--rounds N] [--nncf PYTHON] [--json]

EfficientNet-Lite0 over pictures of ELPV, four at a time, each calibrator in a process of its own (`calibrators.py`):
tledge; onnxruntime's, which keep every activation until the end; the same, one batch at a time, as its option
CalibStridedMinMax has it; NNCF with the smallest and largest of all values, which quantizes as it goes, and is left out
where it is not installed. Ranges are compared first. How far onnxruntime's entropy differs is stated without a bar: its
groups leave out the last bins, and 128 bins leave it no choice at all. 512 pictures would take its percentile some 33
GB, so it runs at 64, and at 32 to see how it grows.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import datasets, measure, processes, script
from tledge import backbones, modalities, native, places, reference

SPEED_BAR, MEMORY_BAR, KERNEL_BAR = 10.0, 1.2, 1.0
ROUNDS = 3
FEW, MANY = 64, 512
BINS = 2048
# Ours stops where a bin ends, onnxruntime where one begins: one bin of either. Of float sums in another order, 1e-5.
TOLERANCES = {"minmax": 1e-5, "percentile": 2 / (BINS / 2)}
_SCRIPT = Path(__file__).with_name("calibrators.py")


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims for the kernel, then for equal ranges, speed and memory."""
    yield from _kernel()
    with processes.workspace() as folder:
        bench = Bench(folder)
        few = bench.in_turn(("tledge", "onnxruntime", "strided"), ("minmax", "percentile"), arguments.rounds)
        few |= bench.in_turn(("tledge",), ("entropy", "mse"), arguments.rounds)
        few |= bench.in_turn(("onnxruntime",), ("entropy", "entropy of 128 bins"), 1)
        yield from _ranges(few)
        yield from _speed(few)
        yield from _memory(few, bench, arguments.rounds)
        yield from _nncf(few, bench, arguments)


def _kernel() -> Iterator[dict[str, Any]]:
    """Yield how many times as fast as NumPy each variant of the kernel is, on a layer of four pictures, one thread."""
    x = np.clip(np.random.default_rng(0).standard_normal((4, 32, 112, 112), np.float32), 0, 6)
    names = [each.name for each in native.variants("observe") if each.supported and each.name != "reference"]
    states = {name: (np.zeros(reference.BINS, np.int64), np.zeros(6)) for name in ("NumPy", *names)}
    sides = {name: partial(native.implementation("observe", name), x, *states[name]) for name in names}
    sides["NumPy"] = partial(_numpy, x, *states["NumPy"])
    seconds = measure.interleave(sides, 15)
    for name in names:
        assert np.array_equal(states[name][0], states["NumPy"][0]), f"{name} does not count as NumPy does"
        text = f"{name}: range, histogram and moments, over blocked NumPy: at least {KERNEL_BAR:g}"
        yield measure.claim(text, measure.ratio(seconds["NumPy"], seconds[name]), at_least=KERNEL_BAR, kind="ratio")


def _numpy(x: np.ndarray, counts: np.ndarray, summary: np.ndarray) -> None:
    """Count in the fewest steps that NumPy takes: the width of bins known, the last bits of the sums not promised."""
    summary[1:3] = x.min(), x.max()
    scale = 2.0 ** (11 - np.frexp(np.abs(summary[1:3]).max())[1])
    for part in np.split(x.ravel(), range(1 << 15, x.size, 1 << 15)):
        wide = part.astype(np.float64)
        summary[3:] += wide.size, wide.sum(), wide @ wide
        wide *= scale
        counts += np.bincount(np.floor(wide, out=wide).astype(np.int64) + reference.BINS // 2, minlength=reference.BINS)


Runs = dict[tuple[str, str], list[dict[str, Any]]]


class Bench:
    """The graph and the pictures, in files that every calibrator reads."""

    def __init__(self, folder: Path) -> None:
        import onnx

        self._cache = processes.new_cache(folder)
        self._model, self._pictures = folder / "model.onnx", folder / "pictures.raw"
        backbone = backbones.load(processes.BACKBONE, places.cache_dir())
        onnx.save(onnx.shape_inference.infer_shapes(onnx.load(backbone.path)), self._model)
        files = sorted(datasets.elpv(folder / "elpv").rglob("*.png"))
        random.Random(0).shuffle(files)
        modalities.preprocess(files[:MANY], backbone.preprocess).tofile(self._pictures)

    def run(self, calibrator: str, method: str, count: int, python: str = sys.executable) -> dict[str, Any]:
        """Return the document of one calibrator."""
        processes.say(f"{calibrator}, {method}, {count} pictures")
        command = [python, _SCRIPT, calibrator, method, self._model, self._pictures, str(count)]
        return processes.run(command, self._cache).document()

    def in_turn(self, calibrators: tuple[str, ...], methods: tuple[str, ...], rounds: int) -> Runs:
        """Return the documents of all, one of each a round, the order turned from round to round."""
        pairs = [(each, method) for method in methods for each in calibrators]
        found: Runs = {pair: [] for pair in pairs}
        for number in range(rounds):
            for pair in pairs if number % 2 else pairs[::-1]:
                found[pair].append(self.run(*pair, FEW))
        return found


def _ranges(few: Runs) -> Iterator[dict[str, Any]]:
    for method, tolerance in TOLERANCES.items():
        for peer in ("onnxruntime", "strided"):
            off = _off(few["tledge", method][0], few[peer, method][0])
            text = f"{method}, {FEW} pictures: farthest of {len(off)} ranges from {_name(peer)}, over its largest value"
            yield measure.claim(f"{text}: at most {tolerance:g}", (max(off),) * 3, at_most=tolerance)
    bin_ = TOLERANCES["percentile"]
    for method, text in (("entropy", "entropy of 2048 bins"), ("entropy of 128 bins",) * 2):
        for other in ("entropy", "minmax"):
            off = _off(few["tledge", other][0], few["onnxruntime", method][0])
            share = float(np.mean(np.array(off) <= bin_))
            yield measure.claim(
                f"{text}: share of onnxruntime's ranges within {bin_:g} of tledge's {other}", (share,) * 3
            )


def _off(ours: dict[str, Any], theirs: dict[str, Any], of_ends: Callable[..., Any] = np.max) -> list[float]:
    """Return, for each tensor that both name, how far apart the ranges are, over the largest value of either."""
    pairs = [(ours["ranges"][name], theirs["ranges"][name]) for name in ours["ranges"] if name in theirs["ranges"]]
    return [float(of_ends(np.abs(np.subtract(a, b))) / np.abs([a, b]).max()) for a, b in pairs]


def _speed(few: Runs) -> Iterator[dict[str, Any]]:
    for method, peer, bar in (
        ("percentile", "onnxruntime", SPEED_BAR),
        ("entropy", "onnxruntime", SPEED_BAR),
        ("percentile", "strided", None),
        ("minmax", "onnxruntime", None),
    ):
        theirs, ours = ([each["seconds"] for each in few[who, method]] for who in (peer, "tledge"))
        text = f"{method}, {FEW} pictures: {_name(peer)} over tledge" + (f": at least {bar:g}" if bar else "")
        pairs = measure.ratio(theirs, ours[: len(theirs)])
        yield measure.claim(text, pairs, at_least=bar, kind="ratio")
    for method in ("minmax", "percentile", "entropy", "mse"):
        seconds = [each["seconds"] for each in few["tledge", method]]
        yield measure.claim(f"{method}, {FEW} pictures: seconds of tledge", measure.spread(seconds))


def _memory(few: Runs, bench: Bench, rounds: int) -> Iterator[dict[str, Any]]:
    many = [bench.run("tledge", "percentile", MANY) for _ in range(rounds)]
    peaks, before = ([each["peak_bytes"] for each in runs] for runs in (many, few["tledge", "percentile"]))
    text = f"peak memory of tledge, {MANY} pictures over {FEW}: at most {MEMORY_BAR:g}"
    yield measure.claim(text, measure.ratio(peaks, before), at_most=MEMORY_BAR, kind="ratio")
    yield measure.claim(f"MB at the peak of tledge, {MANY} pictures", measure.spread(each / 1e6 for each in peaks))
    yield measure.claim(
        f"seconds of tledge, percentile, {MANY} pictures", measure.spread(each["seconds"] for each in many)
    )
    half = bench.run("onnxruntime", "percentile", FEW // 2)["peak_bytes"] / 1e6
    for peer in ("onnxruntime", "strided"):
        whole = [each["peak_bytes"] / 1e6 for each in few[peer, "percentile"]]
        yield measure.claim(f"MB at the peak of {_name(peer)}, percentile, {FEW} pictures", measure.spread(whole))
    kept = [each["peak_bytes"] / 1e6 for each in few["onnxruntime", "percentile"]]
    grown = measure.spread((each - half) / (FEW - FEW // 2) for each in kept)
    yield measure.claim(f"MB that each picture more takes onnxruntime, from {FEW // 2} to {FEW}", grown)


def _nncf(few: Runs, bench: Bench, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    known = subprocess.run([arguments.nncf, "-c", "import nncf"], env=_quiet(), capture_output=True).returncode == 0
    if not known:
        processes.say("NNCF is left out: it is not installed. Name the Python of an environment with it: --nncf PYTHON")
        return
    os.environ.update(_quiet())
    theirs = [bench.run("nncf", "minmax", FEW, arguments.nncf) for _ in range(arguments.rounds)]
    ours = few["tledge", "minmax"]
    # So that zero is a step, it moves one end outwards. The other is what it found.
    off = _off(ours[0], theirs[0], np.min)
    text = f"minmax, {FEW} pictures: farthest of {len(off)} ranges from NNCF's, at the end that it left alone"
    tolerance = TOLERANCES["minmax"]
    yield measure.claim(f"{text}: at most {tolerance:g}", (max(off),) * 3, at_most=tolerance)
    seconds = ([each["seconds"] for each in runs] for runs in (theirs, ours))
    yield measure.claim(
        f"minmax, {FEW} pictures: NNCF, which quantizes too, over tledge", measure.ratio(*seconds), kind="ratio"
    )
    for count, runs in ((FEW, theirs), (MANY, [bench.run("nncf", "minmax", MANY, arguments.nncf)])):
        peaks = measure.spread(each["peak_bytes"] / 1e6 for each in runs)
        yield measure.claim(f"MB at the peak of NNCF, minmax, {count} pictures", peaks)


def _quiet() -> dict[str, str]:
    return os.environ | {"NNCF_CI": "1"}  # it would report over the network


def _name(peer: str) -> str:
    return "onnxruntime, batch by batch" if peer == "strided" else peer


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"processes of each calibrator [{ROUNDS}]")
    parser.add_argument("--nncf", default=sys.executable, metavar="PYTHON", help="an interpreter that has NNCF")


if __name__ == "__main__":
    script.main("calibrate", __doc__, claims, add_options)
