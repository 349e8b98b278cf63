"""Claim: training a head takes a twentieth of plain Keras' time, a hundredth and a half once features are cached.

    python -m benchmarks.train [--flowers DIR] [--rounds N] [--json] [NAME…]

Plain Keras (keras_frozen.py) is what the tutorials have people type: the network frozen under one softmax layer, `fit`
for 10 epochs. Both sides have the same network with the same weights, the same split and whole processes, start-up and
report included. "Cold" finds nothing in its cache but the converted backbone, "warm" all features; what a very first
run takes, conversion included, is stated. The picture files themselves are warm in the system's own cache. In a round,
tledge runs before and after the one run of Keras, and each of its runs is compared with that. Then what training costs
in seconds, and what pictures cost that are added.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import datasets, measure, processes, script

COLD_BAR, WARM_BAR, ACCURACY_BAR_POINTS = 20, 150, 0.5
COLD_BAR_S, WARM_BAR_S = 40, 3
ROUNDS, EPOCHS = 1, 10
COLD_RUNS, WARM_RUNS = 2, 4  # in each round, half of them before Keras and half after
ADDED = 50
_STAGES = ("scan", "backbone", "extract", "fit", "model", "report", "start-up")
_NETWORK = """
import sys, keras
from tledge.backbones.keras_families import RECIPES
from tledge.backbones.efficientnet_lite import network
network(keras, sys.argv[1], RECIPES[sys.argv[1]].input_size)[0].save(sys.argv[2])
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of either side: whole seconds, accuracy, and the seconds of what it consists of."""

    seconds: float
    accuracy: float
    parts: dict[str, float]


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims for each data set: against Keras, where the time goes, and for ELPV those in seconds."""
    with processes.workspace() as folder:
        network = folder / "network.keras"
        processes.run(processes.python(_NETWORK, processes.BACKBONE, network), folder)
        for name in arguments.names or DATA:
            if name == "flowers" and not arguments.flowers:
                processes.say("flowers are left out without --flowers")
                continue
            data = DATA[name](folder, arguments.flowers)
            first = _tledge(Path(tempfile.mkdtemp(prefix="first-", dir=folder)), data)
            cache = processes.new_cache(folder)
            ours_cold, ours_warm, theirs = _measured(cache, data, network, arguments.rounds)
            yield from _compared(name, {"first": [first], "cold": ours_cold, "warm": ours_warm}, theirs)
            if name == "elpv":
                yield from _in_seconds(cache, data, ours_cold, ours_warm)


# ── Measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _measured(cache: Path, data: Path, network: Path, rounds: int) -> tuple[list[Run], list[Run], list[Run]]:
    cold, warm, theirs = [], [], []

    def ours() -> None:
        for _ in range(COLD_RUNS // 2):
            forget(cache)
            cold.append(_tledge(cache, data))
        warm.extend(_tledge(cache, data) for _ in range(WARM_RUNS // 2))

    for _ in range(rounds):
        ours()
        theirs.append(_keras(cache, data, network))
        ours()
    return cold, warm, theirs


def forget(cache: Path) -> None:
    """Drop all from the cache folder `cache` but converted backbones."""
    for each in cache.iterdir():
        if each.name != "backbones":
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def _tledge(cache: Path, data: Path) -> Run:
    done = _train(cache, data)
    found = done.document()
    parts = dict(found["seconds"])
    parts["start-up"] = done.seconds - parts["total"]
    return Run(done.seconds, found["metrics"]["accuracy"], parts)


def _train(cache: Path, data: Path) -> processes.Finished:
    words = ("--backbone", processes.BACKBONE, "--provider", "cpu", "--force", "--json")
    done = processes.run(processes.tledge("train", data, "--out", cache / "run", *words), cache)
    processes.say(f"{data.name}: tledge {done.seconds:.2f} s")
    return done


def _keras(cache: Path, data: Path, network: Path) -> Run:
    peer = Path(__file__).with_name("keras_frozen.py")
    done = processes.run([sys.executable, peer, network, data, str(EPOCHS)], cache)
    found = done.document()
    processes.say(f"{data.name}: plain Keras {done.seconds:.1f} s, accuracy {found['accuracy']:.3f}")
    return Run(done.seconds, found["accuracy"], {"validation": found["validation_seconds"]})


# ── Claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _compared(name: str, ours: dict[str, list[Run]], theirs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    what, cold = f"{name}, frozen {processes.BACKBONE}", ours["cold"]
    for state, bar in (("cold", COLD_BAR), ("warm", WARM_BAR)):
        text = f"{what}: plain Keras, {EPOCHS} epochs, over tledge, {state}, whole processes: at least {bar}"
        yield measure.claim(text, over([each.seconds for each in theirs], ours[state]), at_least=bar, kind="ratio")
        # `fit` without validation_data, and one evaluation in the end
        less = [each.seconds - each.parts["validation"] * (1 - 1 / EPOCHS) for each in theirs]
        text = f"{what}: plain Keras that validates after the last epoch only, over tledge, {state}"
        yield measure.claim(text, over(less, ours[state]), kind="ratio")
    lead = [100 * (cold[0].accuracy - each.accuracy) for each in theirs]  # of tledge, every run gives the same
    text = f"{what}: accuracy over that of plain Keras, points, mean: at least -{ACCURACY_BAR_POINTS}"
    yield measure.claim(text, measure.spread(lead, statistics.fmean), at_least=-ACCURACY_BAR_POINTS)
    for side, runs in (("tledge", cold), ("plain Keras", theirs)):
        accuracies = measure.spread((each.accuracy for each in runs), statistics.fmean)
        yield measure.claim(f"{what}: accuracy of {side}, mean", accuracies)
    yield measure.claim(f"{what}: seconds of plain Keras", measure.spread(each.seconds for each in theirs))
    for state, runs in ours.items():
        yield measure.claim(f"{what}: seconds of tledge, {state}", measure.spread(each.seconds for each in runs))
        for stage in _STAGES:
            spent = measure.spread(each.parts[stage] for each in runs)
            yield measure.claim(f"{what}: seconds of tledge, {state}, in {stage}", spent)


def over(theirs: Sequence[float], ours: Sequence[Run]) -> measure.Spread:
    """Return how many times as long `theirs` took, one of each round, as each of `ours`, as many of each round."""
    each = len(ours) // len(theirs)
    return measure.ratio([seconds for seconds in theirs for _ in range(each)], [run.seconds for run in ours])


def _in_seconds(cache: Path, data: Path, cold: Sequence[Run], warm: Sequence[Run]) -> Iterator[dict[str, Any]]:
    text = f"ELPV, train with nothing cached but the backbone, median of {len(cold)}: at most {COLD_BAR_S} s"
    yield measure.claim(text, measure.spread(each.seconds for each in cold), at_most=COLD_BAR_S)
    text = f"ELPV, train again with all features cached, median of {len(warm)}: at most {WARM_BAR_S} s"
    yield measure.claim(text, measure.spread(each.seconds for each in warm), at_most=WARM_BAR_S)
    add_mirrored(data, ADDED)
    misses = _train(cache, data).document()["cache"]["misses"]
    text = f"ELPV, {ADDED} pictures added to the cached ones: exactly {ADDED} misses"
    yield {**measure.claim(text, (misses,) * 3, at_most=ADDED), "holds": misses == ADDED}


# ── Data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _elpv(folder: Path, _: Path | None) -> Path:
    return datasets.elpv_split(datasets.elpv(folder / "pictures"), folder / "elpv", seed=0, test_fraction=0.2)


def _flowers(folder: Path, source: Path) -> Path:
    return source.resolve()


def add_mirrored(pictures: Path, count: int) -> None:
    """Add mirror images of `count` of the PNG files below `pictures`: files of the same kind that no cache has seen."""
    from PIL import Image, ImageOps

    originals = sorted(pictures.rglob("*.png"))
    for original in originals[:: max(1, len(originals) // count)][:count]:
        with Image.open(original) as image:
            ImageOps.mirror(image).save(original.with_name(f"mirrored-{original.name}"))


DATA: dict[str, Callable[[Path, Any], Path]] = {"elpv": _elpv, "flowers": _flowers}


def _name(word: str) -> str:
    if word not in DATA:
        raise argparse.ArgumentTypeError(f"there is no data set {word} here")
    return word


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("names", nargs="*", type=_name, metavar="NAME", help=", ".join(DATA))
    parser.add_argument("--flowers", type=Path, metavar="DIR", help="pictures of flowers: DIR/train|val/class/…")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of Keras on each data set [{ROUNDS}]")


if __name__ == "__main__":
    script.main("train", __doc__, claims, add_options)
