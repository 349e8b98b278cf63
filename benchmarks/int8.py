"""Claim: on ELPV the int8 model is as good as the float one, and takes 0.6 of its time at most and 5.5 MB.

    python -m benchmarks.int8 [--json]

Accuracy and agreement are those that `tledge export` measures on the held-out quarter, for several splits. Latency is
single-stream p50, in two ways. In pairs: `tledge bench --against` runs both models in one process, turn by turn; each
round is a fresh process. Apart: each model has whole `tledge bench` processes of its own, turn by turn; each round is
one of either. Pairs are immune to noise that lasts longer than a pair, but neither model finds the processor's caches
as it left them; apart is what a box with one model sees.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import datasets, measure, processes, script
from tledge import machine

DROP_BAR_POINTS, AGREEMENT_BAR, SIZE_BAR_MB, LATENCY_BAR = 1.0, 0.95, 5.5, 0.6
SEEDS = 3
ROUNDS = 5
SECONDS = "2"
_ANY_VERDICT = (0, 1, 3)


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims for accuracy, agreement and size, then for latency at two threads and at one."""
    with processes.workspace() as folder:
        cache = processes.new_cache(folder)
        pictures = datasets.elpv(folder / "elpv")
        exports = [_export(cache, pictures, folder, seed) for seed in range(SEEDS)]
        yield from _fidelity(exports)
        int8, fp32 = folder / "0.onnx", folder / "run-0" / "model.onnx"
        for threads in sorted({min(2, machine.cores()), 1}, reverse=True):
            yield from _latency(cache, int8, fp32, threads)


def _fidelity(exports: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    drops = [100 * (each["accuracy"]["before"] - each["accuracy"]["after"]) for each in exports]
    text = f"ELPV int8, accuracy drop in points, mean of {SEEDS} splits: at most {DROP_BAR_POINTS:g}"
    yield measure.claim(text, measure.spread(drops, statistics.fmean), at_most=DROP_BAR_POINTS)
    agreement = [each["parity"]["agreement"] for each in exports]
    text = f"ELPV int8, agreement with fp32, mean of {SEEDS} splits: at least {AGREEMENT_BAR}"
    yield measure.claim(text, measure.spread(agreement, statistics.fmean), at_least=AGREEMENT_BAR)
    megabytes = [each["bytes"] / 1e6 for each in exports]
    yield measure.claim(f"int8 file in MB: at most {SIZE_BAR_MB}", measure.spread(megabytes, max), at_most=SIZE_BAR_MB)


def _latency(cache: Path, int8: Path, fp32: Path, threads: int) -> Iterator[dict[str, Any]]:
    setting = f"{threads} thread{'s' if threads > 1 else ''}"
    paired, apart = [], {int8: [], fp32: []}
    for number in range(ROUNDS):
        processes.say(f"bench on {setting}, round {number + 1} of {ROUNDS}")
        paired.append(_bench(cache, int8, threads, "--against", fp32)["verdict"]["ratio"])
        for model in (int8, fp32) if number % 2 else (fp32, int8):
            apart[model].append(_bench(cache, model, threads)["scenarios"]["single_stream"]["p50_ms"])
    where = f"single-stream p50 of int8 over fp32, {setting}"
    bar = {"at_most": LATENCY_BAR, "kind": "ratio"}
    yield measure.claim(f"{where}, in pairs: at most {LATENCY_BAR}", measure.spread(paired), **bar)
    yield measure.claim(f"{where}, apart: at most {LATENCY_BAR}", measure.ratio(apart[int8], apart[fp32]), **bar)
    for name, model in (("int8", int8), ("fp32", fp32)):
        yield measure.claim(f"single-stream p50 of {name} in ms, {setting}, apart", measure.spread(apart[model]))


def _export(cache: Path, pictures: Path, folder: Path, seed: int) -> dict[str, Any]:
    processes.say(f"training and exporting, seed {seed}")
    run, model = folder / f"run-{seed}", folder / f"{seed}.onnx"
    split = ("--test-fraction", "0.25", "--seed", str(seed))
    processes.run(processes.tledge("train", pictures, "--out", run, "--json", *split), cache)
    # A poor export is a figure to report here, not an error.
    command = processes.tledge("export", run, "--out", model, "--precision", "int8", "--min-agreement", "0", "--json")
    return processes.run(command, cache).document()


def _bench(cache: Path, model: Path, threads: int, *against: str | Path) -> dict[str, Any]:
    setting = ("--scenario", "single_stream", "--seconds", SECONDS, "--threads", str(threads), "--json")
    return processes.run(processes.tledge("bench", model, *setting, *against), cache, _ANY_VERDICT).document()


if __name__ == "__main__":
    script.main("int8", __doc__, claims)
