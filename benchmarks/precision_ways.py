"""What refitting the head and correcting the biases win back: three of the claims of `benchmarks.precision`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from benchmarks import measure, processes
from benchmarks.precision_rows import Row, points, rows
from benchmarks.precision_shelf import LITE, Shelf
from tledge import machine, model
from tledge.model.precision import bias_correction

DROP_BAR_POINTS, RECOVERED_BAR_PERCENT = 0.3, 80.0
PARTS = 3


def drop(shelf: Shelf) -> Iterator[dict[str, Any]]:
    """Yield how many points of accuracy int8 costs, as `tledge export` makes it, each data set split several times."""
    if LITE[0] not in shelf.backbones:
        return
    means = []
    for name in shelf.data:
        splits = [Row(shelf, LITE[0], name, part) for part in range(PARTS)]
        drops = [_exported_drop(row) for row in splits]
        means.append(statistics.fmean(drops))
        tested = len(splits[0].dataset.test)
        text = f"{splits[0].title}: points lost by int8, mean of {PARTS} splits, {tested} test samples each"
        yield measure.claim(text, measure.spread(drops, statistics.fmean))
    text = f"{LITE[0]}, points lost by int8, mean of {', '.join(shelf.data)}: at most {DROP_BAR_POINTS}"
    yield measure.claim(text, measure.spread(means, statistics.fmean), at_most=DROP_BAR_POINTS)


def _exported_drop(row: Row) -> float:
    """Train and export with the commands; return the points that the export says it lost."""
    run = row.run()
    out = run.with_suffix(".onnx")
    command = ("export", run, "--out", out, "--precision", "int8", "--calibration", "auto", "--min-agreement", "0")
    processes.say(f"{row.title}, split {row.part}: exporting")
    found = processes.run(processes.tledge(*command, "--force", "--json"), row.shelf.cache).document()["accuracy"]
    return 100 * (found["before"] - found["after"])


class Ways(NamedTuple):
    """Whether each sample is decided rightly, bool [n]: the float model, and int8 in so many ways.

    `plain`, `corrected`, `refitted` and `both` are with and without bias correction, with and without a head fitted
    again; `exported` is what the export makes, which also equalises channels where it helps. `control` is the float
    graph, its head fitted again as that of int8 is.
    """

    exact: np.ndarray
    plain: np.ndarray
    corrected: np.ndarray
    refitted: np.ndarray
    both: np.ndarray
    exported: np.ndarray
    control: np.ndarray


def per_tensor(shelf: Shelf) -> Iterator[dict[str, Any]]:
    """Yield how much of what one scale for all channels of a layer costs is won back."""
    if LITE[0] not in shelf.backbones or "fashion" not in shelf.data:
        return
    row = Row(shelf, LITE[0], "fashion")
    found = four_ways(row, per_channel=False)
    exact, plain, exported = (100 * float(each.mean()) for each in (found.exact, found.plain, found.exported))
    lost = exact - plain
    share = 100 * (exported - plain) / lost if lost > 0 else 100.0
    text = f"{row.title}, per tensor: {exact:.2f} in float, {plain:.2f} in int8 as it is, {exported:.2f} as"
    text += f" exported; per cent of the loss that is recovered: at least {RECOVERED_BAR_PERCENT:g}"
    yield measure.claim(text, (share,) * 3, at_least=RECOVERED_BAR_PERCENT)


def ways(shelf: Shelf) -> Iterator[dict[str, Any]]:
    """Yield, for each row, what int8 costs in points four ways, and what the float head gains by being fitted again."""
    for row in rows(shelf):
        for per_channel in (True, False) if row.name == LITE[0] else (True,):
            found = four_ways(row, per_channel)
            lost = {way: -points(right, found.exact) for way, right in found._asdict().items() if way != "exact"}
            again = lost.pop("control")
            text = f"{row.title}, {'per channel' if per_channel else 'per tensor'}, {len(found.exact)} samples"
            text += f", {100 * found.exact.mean():.2f} % right in float; points lost by int8: "
            text += "; ".join(f"{way} {value:+.2f}" for way, value in lost.items())
            text += f"; lost by float with its head fitted again {again:+.2f}; of exported"
            yield measure.claim(text, (lost["exported"],) * 3)


def four_ways(row: Row, per_channel: bool) -> Ways:
    """Return the decisions of int8 in all ways. They share the calibration pictures and the method for ranges."""
    rounding = model.Rounding(per_channel, machine.saturates_int8())
    graph, chosen = row.quantized(per_channel)
    exported, exact = row.judge(graph), row.float_judged
    make = partial(model.quantize, row.backbone, row.pictures[0], method=chosen.method, rounding=rounding)
    corrected = row.judge(make(cache_dir=row.shelf.cache))
    # It is kept apart: the key of what is kept does not tell that there was no correction.
    place = row.shelf.folder / "uncorrected"
    place.mkdir(exist_ok=True)
    with mock.patch.object(bias_correction, "correct_biases", lambda *_, **__: None):
        plain = row.judge(make(cache_dir=place))
    return Ways(
        exact=exact.own,
        plain=plain.own,
        corrected=corrected.own,
        refitted=plain.refitted,
        both=corrected.refitted,
        exported=exported.refitted,
        control=exact.refitted,
    )
