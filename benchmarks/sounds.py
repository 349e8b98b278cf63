"""Claim: spoken digits are told apart, by speakers never heard too, and int8 costs nothing of it.

    python -m benchmarks.sounds --digits DIR [--json]

DIR holds recordings of the free spoken digit data set: <digit>_<speaker>_<number>.wav, of which numbers below 5 are
the set's own test split. Beside it every speaker is left out once. The head is the default one; it chooses its strength
by folds that keep speakers together, and the tested speaker is in none of them. int8 is that of `tledge export`.
The real-time factor is that of `tledge bench`: the median latency of a window over its length.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure, processes, script

OWN_BAR, UNHEARD_BAR, DROP_BAR_POINTS = 0.98, 0.93, 0.5
NOTHING_TO_MEASURE = 3
_TESTED_BELOW = 5
_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")


class Take(NamedTuple):
    """One recording: its file, the digit that is spoken, by whom, and the how manieth."""

    path: Path
    digit: str
    speaker: str
    number: int


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the accuracies, what int8 costs, and how fast both precisions are."""
    if not arguments.digits:
        processes.say("Spoken digits need --digits.")
        sys.exit(NOTHING_TO_MEASURE)
    takes = read(arguments.digits)
    speakers = sorted({take.speaker for take in takes})
    with processes.workspace() as folder:
        run = _trained(folder, takes, "own", lambda take: take.number < _TESTED_BELOW)
        text = f"spoken digits, the set's own split, speech_embedding: accuracy: at least {OWN_BAR}"
        yield measure.claim(text, (_accuracy(run),) * 3, at_least=OWN_BAR)
        yield from _in_int8(folder, run)
        unheard = []
        for speaker in speakers:
            found = _trained(folder, takes, speaker, lambda take, speaker=speaker: take.speaker == speaker)
            unheard.append(_accuracy(found))
            processes.say(f"without {speaker}: {unheard[-1]:.3f}")
        text = f"spoken digits, one of {len(speakers)} speakers left out, mean accuracy: at least {UNHEARD_BAR}"
        yield measure.claim(text, measure.spread(unheard, statistics.fmean), at_least=UNHEARD_BAR)


def read(folder: Path) -> list[Take]:
    """Return the recordings in `folder`, by name."""
    found = [(path, _NAME.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    takes = [Take(path, match[1], match[2], int(match[3])) for path, match in found if match]
    if not takes:
        sys.exit(f"{folder} holds no file like 7_jackson_12.wav.")
    return takes


def _trained(folder: Path, takes: list[Take], name: str, tested: Callable[[Take], bool]) -> dict[str, Any]:
    table = folder / f"{name}.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "group"))
        for take in takes:
            # Where the set's own split tests all speakers, they are in training too: no groups to keep apart.
            group = "" if name == "own" else take.speaker
            writer.writerow((take.path.absolute(), take.digit, "test" if tested(take) else "train", group))
    words = ("--out", folder / name, "--provider", "cpu", "--json")
    return processes.run(processes.tledge("train", table, *words), folder).document()


def _accuracy(document: dict[str, Any]) -> float:
    return document["metrics"]["accuracy"]


def _in_int8(folder: Path, run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    out = folder / "int8.onnx"
    export = ("export", run["run"], "--precision", "int8", "--out", out, "--json")
    accuracy = processes.run(processes.tledge(*export), folder).document()["accuracy"]
    drop = 100 * (accuracy["before"] - accuracy["after"])
    text = f"spoken digits, int8: accuracy lost, points: at most {DROP_BAR_POINTS}"
    yield measure.claim(text, (drop,) * 3, at_most=DROP_BAR_POINTS)
    for precision, model in (("fp32", run["model"]), ("int8", out)):
        bench = ("bench", model, "--scenario", "single_stream", "--seconds", "5", "--provider", "cpu", "--json")
        found = processes.run(processes.tledge(*bench), folder).document()
        alone, factor = found["scenarios"]["single_stream"], found["real_time_factor"]
        figures = factor, *(factor * alone[key] / alone["p50_ms"] for key in ("min_ms", "p99_ms"))
        yield measure.claim(f"spoken digits, {precision}: real-time factor (p50; shortest, p99)", figures)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--digits", type=Path, metavar="DIR", help="the recordings")


if __name__ == "__main__":
    script.main("sounds", __doc__, claims, _options)
