"""Claim: a frozen efficientnet_lite0 reaches 0.86 on ELPV, with either head, and 0.89 on five kinds of flowers.

    python -m benchmarks.accuracy [--flowers DIR] [--json]

ELPV is split 75/25 by class, five times. DIR holds train/ and val/ with a folder per class; it is split as given.
For scale: Deitsch et al. 2019 report 0.824 for a support vector machine and 0.884 for a fine-tuned VGG19 on ELPV, on
one split of their own; they are quoted, not measured here.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import datasets, measure, processes, script

ELPV_BAR, FLOWERS_BAR = 0.86, 0.89
SEEDS, HEADS = 5, ("linear", "svm")


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a claim for ELPV, and one for the flowers where they were given."""
    with processes.workspace() as folder:
        cache = processes.new_cache(folder)
        pictures = datasets.elpv(folder / "elpv")
        for head in HEADS:
            yield _elpv(cache, pictures, head)
        if arguments.flowers:
            accuracy = _accuracy(cache, arguments.flowers.resolve())
            text = f"flowers, accuracy of {processes.BACKBONE} frozen, train and val as given: at least {FLOWERS_BAR}"
            yield measure.claim(text, (accuracy,) * 3, at_least=FLOWERS_BAR)


def _elpv(cache: Path, pictures: Path, head: str) -> dict[str, Any]:
    options = ("--head", head, "--test-fraction", "0.25", "--seed")
    found = [_accuracy(cache, pictures, *options, str(seed)) for seed in range(SEEDS)]
    text = f"ELPV, accuracy of {processes.BACKBONE} frozen, head {head}, mean of {SEEDS} stratified 75/25 splits"
    return measure.claim(f"{text}: at least {ELPV_BAR}", measure.spread(found, statistics.fmean), at_least=ELPV_BAR)


def _accuracy(cache: Path, pictures: Path, *options: str) -> float:
    processes.say(f"training on {pictures.name} {' '.join(options)}")
    command = processes.tledge("train", pictures, "--out", cache / "run", "--force", "--json", *options)
    return processes.run(command, cache).document()["metrics"]["accuracy"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("--flowers", type=Path, metavar="DIR", help="pictures of flowers: DIR/train|val/class/…")


if __name__ == "__main__":
    script.main("accuracy", __doc__, claims, add_options)
