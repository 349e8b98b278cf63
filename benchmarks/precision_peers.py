"""How accurate int8 is beside that of others, on the same graphs and pictures: a claim of `benchmarks.precision`.

Every tool gets the float graph and the pictures that tledge calibrates on. Of each tool's settings that one counts
whose features err least on other training pictures, as `tledge export` chooses its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import measure, processes
from benchmarks.precision_rows import Judged, Row, chance, only, points, rows
from benchmarks.precision_shelf import Shelf
from tledge.model.precision import calibration_pictures
from tledge.schema import Backbone

LIKELY = 0.05
_SCRIPT = Path(__file__).with_name("quantizers.py")


class Beside(NamedTuple):
    """A peer beside tledge on one row: points that tledge is ahead with each head, how probable a lead like the peer's
    is by chance, and how many times tledge's error of the features the peer's is."""

    points: tuple[float, float]
    chance: tuple[float, float]
    errors: float


def accuracy(shelf: Shelf, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield how accurate tledge and each peer are on every row, and then on how many rows a peer is ahead."""
    found: list[Beside] = []
    for row in rows(shelf):
        ours, exact = row.judge(row.quantized()[0]), row.float_judged.own
        text = f"{row.title}, {len(exact)} samples, {100 * exact.mean():.2f} % right in float"
        text = f"{text}: points behind it, with its head / refitted"
        yield _behind(f"{text}: tledge", ours, exact)
        for tool, (setting, graph) in peers(row, arguments.nncf).items():
            theirs = row.judge(graph)
            yield _behind(f"{text}: {tool}, {setting}", theirs, exact)
            found.append(_beside(ours, theirs))
    if found:
        yield from _summary(found)


def _behind(text: str, found: Judged, exact: np.ndarray) -> dict[str, Any]:
    lost = f"{-points(found.own, exact):+.2f} / {-points(found.refitted, exact):+.2f}"
    return measure.claim(f"{text} {lost}; ‰ of the features' squares that are error", (1000 * found.error,) * 3)


def _beside(ours: Judged, theirs: Judged) -> Beside:
    pairs = ((ours.own, theirs.own), (ours.refitted, theirs.refitted))
    ahead = tuple(points(*pair) for pair in pairs)
    luck = tuple(chance(only(theirs, ours), only(ours, theirs)) for ours, theirs in pairs)
    return Beside(ahead, luck, theirs.error / ours.error)


def _summary(found: list[Beside]) -> Iterator[dict[str, Any]]:
    """Yield who is ahead. What chance explains, with as many comparisons as there are, is counted apart."""
    for i, head in enumerate(("the float head", "the head refitted for all")):
        ahead = [each.points[i] for each in found]
        text = f"{head}: points of accuracy ahead of a peer, mean of {len(found)} comparisons: at least 0"
        yield measure.claim(text, measure.spread(ahead, statistics.fmean), at_least=0)
        behind = sum(margin < 0 for margin in ahead)
        text = f"{head}: comparisons of {len(found)} in which a peer is ahead, by a sample or more: at most 0"
        yield measure.claim(text, (behind,) * 3, at_most=0)
        sure = sum(each.chance[i] < LIKELY / len(found) for each in found)
        text = f"{head}: comparisons in which a peer leads by more than chance would (McNemar, {LIKELY}, Bonferroni)"
        yield measure.claim(f"{text}: at most 0", (sure,) * 3, at_most=0)
    times = measure.spread(each.errors for each in found)
    text = (
        f"squared error of a peer's features over tledge's, median of {len(found)} comparisons; the least: at least 1"
    )
    yield measure.claim(text, times, at_least=1, kind="ratio")


def peers(row: Row, nncf: str) -> dict[str, tuple[str, Backbone]]:
    """Return each peer's best setting for a row, and its graph."""
    return {tool: best for tool, python in tools(nncf).items() if (best := _best(row, tool.lower(), python))}


def tools(nncf: str) -> dict[str, str]:
    """Return the peers that are here, and the interpreter of each."""
    return {"onnxruntime": sys.executable} | ({"NNCF": nncf} if has_nncf(nncf) else {})


def has_nncf(python: str) -> bool:
    """Return whether `python` is an interpreter that has NNCF."""
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('nncf') is None)"
    try:
        return subprocess.run([python, "-c", look]).returncode == 0
    except OSError:
        return False


def _best(row: Row, tool: str, python: str) -> tuple[str, Backbone] | None:
    errors: dict[float, tuple[str, Backbone]] = {}
    for setting, path in quantized_by(row, tool, python).items():
        graph = row.as_graph(path)
        try:
            error = row.error(graph)
        except Exception as problem:  # onnxruntime's exceptions, of graphs that it does not run, share no base
            processes.say(f"{row.title}: {tool}, {setting}: {problem}")
            continue
        processes.say(f"{row.title}: {tool}, {setting}: error {error:.5f}")
        errors[error] = setting, graph
    return errors[min(errors)] if errors else None


def quantized_by(row: Row, tool: str, python: str) -> dict[str, Path]:
    """Return the graph of each setting; they are made once."""
    folder = row.shelf.folder / f"{tool}-{Path(row.name).stem}-{row.data}-{row.part}"
    if not (folder / "made.json").exists():
        folder.mkdir(exist_ok=True)
        feeds = list(calibration_pictures.batches(row.pictures[0], row.backbone))
        pictures = np.concatenate([next(iter(feed.values())) for feed in feeds])
        pictures.tofile(folder / "pictures.raw")
        processes.say(f"{row.title}: {tool} quantizes, {len(pictures)} pictures")
        words = [_SCRIPT, tool, row.backbone.path, folder / "pictures.raw", str(len(pictures)), folder]
        done = processes.run([python, *words], row.shelf.cache)
        (folder / "pictures.raw").unlink()
        (folder / "made.json").write_text(done.output)
    return _listed(row, tool, folder)


def _listed(row: Row, tool: str, folder: Path) -> dict[str, Path]:
    found = {}
    for setting, said in json.loads((folder / "made.json").read_text()).items():
        if "error" in said:
            processes.say(f"{row.title}: {tool}, {setting}: {said['error']}")
        else:
            found[setting] = Path(said["path"])
    return found
