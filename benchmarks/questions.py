"""Claim: questions are sorted by what they ask for, int8 costs little of it and runs one and a half times as fast.

    python -m benchmarks.questions --texts DIR [--json]

DIR holds trec_train.csv and trec_test.csv, with columns `text` and `label`: TREC's questions and its own test split.
The head is the default one. int8 is that of `tledge export`, its head the better one behind it. Speed is that of one
text of 32 tokens, on one thread and on all cores: the two files in interleaved pairs as `tledge bench --against` runs
them, anew 21 times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import measure, processes, script
from tledge import machine
from tledge.measurement.judging import apart

ACCURACY_BAR, DROP_BAR_POINTS, SPEED_BAR = 0.9, 1.0, 1.5
NOTHING_TO_MEASURE = 3
_ROUNDS, _SECONDS = 21, 20.0


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the accuracy of both backbones, and what int8 costs and gains."""
    if not arguments.texts:
        processes.say("Questions need --texts.")
        sys.exit(NOTHING_TO_MEASURE)
    with processes.workspace() as folder:
        run = _trained(folder, arguments.texts, "minilm_l6")
        found = (run["metrics"]["accuracy"],) * 3
        yield measure.claim(f"TREC, minilm_l6: accuracy: at least {ACCURACY_BAR}", found, at_least=ACCURACY_BAR)
        yield from _in_int8(folder, run)
        words = _trained(folder, arguments.texts, "glove_50d")
        yield measure.claim("TREC, glove_50d: accuracy", (words["metrics"]["accuracy"],) * 3)


def _trained(folder: Path, texts: Path, backbone: str) -> dict[str, Any]:
    data, tested = (texts.absolute() / f"trec_{part}.csv" for part in ("train", "test"))
    words = ("--test-data", tested, "--backbone", backbone, "--out", folder / backbone, "--provider", "cpu", "--json")
    return processes.run(processes.tledge("train", data, *words), folder).document()


def _in_int8(folder: Path, run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    out = folder / "int8.onnx"
    export = ("export", run["run"], "--precision", "int8", "--out", out, "--json")
    document = processes.run(processes.tledge(*export), folder).document()
    drop = 100 * (document["accuracy"]["before"] - document["accuracy"]["after"])
    text = f"TREC, minilm_l6 in int8: accuracy lost, points: at most {DROP_BAR_POINTS}"
    yield measure.claim(text, (drop,) * 3, at_most=DROP_BAR_POINTS)
    yield measure.claim("TREC, minilm_l6 in int8: MB of the file", (document["bytes"] / 1e6,) * 3)
    for threads in sorted({1, machine.cores()}):
        setting: apart.Setting = {"provider": "cpu", "threads": threads, "input_file": None}
        # Each ends as soon as it is clear on which side of the bar its own ratio lies, often after a third of a second.
        ratios = [
            apart.against_model(Path(run["model"]), out, setting, SPEED_BAR - 1, _SECONDS).ratio for _ in range(_ROUNDS)
        ]
        text = f"minilm_l6, one text of 32 tokens, threads: {threads}: fp32 over int8: at least {SPEED_BAR}"
        yield measure.claim(text, measure.ratio(ratios, [1.0] * _ROUNDS), at_least=SPEED_BAR, kind="ratio")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where the texts are."""
    parser.add_argument("--texts", type=Path, metavar="DIR", help="trec_train.csv and trec_test.csv")


if __name__ == "__main__":
    script.main("questions", __doc__, claims, add_options)
