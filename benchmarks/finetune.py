"""Claim: with its top unfrozen, efficientnet_lite0 reaches 0.90 on ELPV; its last stage is tuned 5 × as fast as by fit.

    python -m benchmarks.finetune [--seeds N] [--rounds N] [--json]

ELPV is split 75/25 by class and type of cell, N times. Accuracy: everything above the tenth of sixteen blocks trains,
on activations of the pictures and their three mirror images. Speed: the sixteenth block and the last convolution train,
for as many epochs and from the same weights, by `tledge train` with the activations cached and by a plain Keras `fit`
in which the layers below are frozen; whole processes, a model file at the end of both, in turn.
For scale: Deitsch et al. 2019 report 0.884 for a fine-tuned VGG19, on one split of their own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import datasets, measure, processes, script

ACCURACY_BAR, SPEED_BAR, DIFFERENCE_BAR = 0.90, 5, 0.005
UPPER, LAST = "blocks.10", "blocks.15"
SEEDS, ROUNDS, EPOCHS = 5, 3, 12
VIEWS = ("--augment", "flips", "--views", "3")
_PEER = Path(__file__).with_name("keras_fit.py")


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claim on accuracy, and the two of the comparison with Keras."""
    with processes.workspace() as folder:
        cache = processes.new_cache(folder)
        pictures = datasets.elpv(folder / "elpv")
        splits = [datasets.elpv_split(pictures, folder / f"split-{seed}", seed) for seed in range(arguments.seeds)]
        if splits:
            found = [_tledge(cache, split, seed, "--unfreeze", UPPER, *VIEWS)[0] for seed, split in enumerate(splits)]
            text = f"ELPV, accuracy of {processes.BACKBONE} with {UPPER} and up unfrozen, mean of {len(found)} "
            text += f"stratified 75/25 splits: at least {ACCURACY_BAR}"
            yield measure.claim(text, measure.spread(found, statistics.fmean), at_least=ACCURACY_BAR)
        if arguments.rounds:
            split = datasets.elpv_split(pictures, folder / "speed", seed=0)
            yield from _against_keras(split, cache, arguments.rounds)


def _against_keras(split: Path, cache: Path, rounds: int) -> Iterator[dict[str, Any]]:
    options = ("--unfreeze", LAST, "--epochs", str(EPOCHS))
    _tledge(cache, split, 0, *options)  # caches the activations
    ours, theirs = [], []
    for seed in range(rounds):
        ours.append(_tledge(cache, split, seed, *options))
        theirs.append(_keras(cache, split, seed))
    ratio = measure.ratio([seconds for _, seconds in theirs], [seconds for _, seconds in ours])
    text = f"ELPV, {LAST} and up, {EPOCHS} epochs, seconds of Keras' fit over those of tledge train with activations "
    yield measure.claim(text + f"cached: at least {SPEED_BAR}", ratio, at_least=SPEED_BAR, kind="ratio")
    lost = [keras - own for (own, _), (keras, _) in zip(ours, theirs, strict=True)]
    text = f"ELPV, the same, accuracy of Keras' fit minus that of tledge train, mean of {rounds}: at most "
    yield measure.claim(text + f"{DIFFERENCE_BAR}", measure.spread(lost, statistics.fmean), at_most=DIFFERENCE_BAR)


def _tledge(cache: Path, split: Path, seed: int, *options: str) -> tuple[float, float]:
    """Return the accuracy on the test pictures, and the seconds it took."""
    data = (split / "train", "--test-data", split / "test", "--backbone", processes.BACKBONE)
    command = processes.tledge(
        "train", *data, "--out", cache / "run", "--force", "--json", "--seed", str(seed), *options
    )
    done = processes.run(command, cache)
    accuracy = done.document()["metrics"]["accuracy"]
    processes.say(f"tledge, seed {seed}: {accuracy:.4f} in {done.seconds:.0f} s")
    return accuracy, done.seconds


def _keras(cache: Path, split: Path, seed: int) -> tuple[float, float]:
    command = [sys.executable, _PEER, split, processes.BACKBONE, LAST, str(EPOCHS), str(seed), cache / "peer.keras"]
    done = processes.run(command, cache)
    accuracy = done.document()["accuracy"]
    processes.say(f"keras, seed {seed}: {accuracy:.4f} in {done.seconds:.0f} s")
    return accuracy, done.seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json; with 0, a part is left out."""
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="splits that the accuracy is a mean of")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="rounds of the comparison with Keras")


if __name__ == "__main__":
    script.main("finetune", __doc__, claims, add_options)
