"""int8 beside the int8 of others, on the same graphs and pictures: two of the claims of `benchmarks.precision`.

Every tool gets the float graph and the pictures that tledge calibrates on. Of each tool's settings that one counts
whose features err least on other training pictures, as `tledge export` chooses its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import measure, processes
from benchmarks.precision_rows import Judged, Row, chance, only, points, rows
from benchmarks.precision_shelf import Shelf
from tledge import engine, machine, preprocess
from tledge.model.precision import calibration_pictures
from tledge.schema import Backbone

SPEED_BAR = 2.0
GLANCES, RUNS, SESSIONS = 20, 60, 5  # runs of each graph, in turn; sessions in which they are run
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


def speed(shelf: Shelf, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield how fast int8 is against float, and against the int8 of each peer in whichever setting is fastest."""
    vnni = "without" if machine.saturates_int8() else "with"
    for name in shelf.backbones:
        row = Row(shelf, name, shelf.data[0])
        graphs = {"float": row.backbone, "tledge": row.quantized()[0]}
        for tool, python in tools(arguments.nncf).items():
            found = _quantized(row, tool.lower(), python)
            graphs |= {f"{tool}, {setting}": row.as_graph(path) for setting, path in found.items()}
        for threads in sorted({min(2, machine.cores()), 1}, reverse=True):
            processes.say(f"{row.title}: timing {len(graphs)} graphs, {threads} threads")
            yield from _speeds(f"{row.title}, batch 1, {threads} threads, {vnni} VNNI", graphs, threads)


def _speeds(text: str, graphs: dict[str, Backbone], threads: int) -> Iterator[dict[str, Any]]:
    """Yield the ratio of each tool's fastest graph, and of float, to ours.

    Each is timed in turn with ours alone: in a round of many, the graph behind the one that leaves the caches emptiest
    would always look slow. Sessions are opened anew a few times, since where their memory and threads come to lie
    decides over some per cent.
    """
    glance = {name: min(each) for name, each in measure.interleave(_opened(graphs, threads), GLANCES).items()}
    fastest: dict[str, str] = {}
    for name in sorted(glance, key=glance.__getitem__):
        fastest.setdefault(name.partition(",")[0], name)
    del fastest["tledge"]
    for tool, name in fastest.items():
        theirs, ours = _in_pairs(graphs[name], graphs["tledge"], threads)
        bar = 1.0 if tool != "float" else SPEED_BAR if threads == 2 else None
        what = "float" if tool == "float" else f"int8 of {name}"
        said = f"{text}: {what}, {statistics.median(theirs):.2f} ms, over tledge's int8, {statistics.median(ours):.2f}"
        said += "" if bar is None else f": at least {bar:g}"
        yield measure.claim(said, measure.ratio(theirs, ours), kind="ratio", at_least=bar)


def _in_pairs(theirs: Backbone, ours: Backbone, threads: int) -> tuple[list[float], list[float]]:
    """Return the p50 of either in ms, one of each pair of sessions."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(SESSIONS):
        seconds = measure.interleave(_opened({"theirs": theirs, "ours": ours}, threads), RUNS)
        for side, name in zip(found, ("theirs", "ours"), strict=True):
            side.append(1000 * statistics.median(seconds[name]))
    return found


def _opened(graphs: dict[str, Backbone], threads: int) -> dict[str, Callable[[], object]]:
    """Return a run of each graph that runs. Threads that spun while they wait would steal from the next one."""
    spec, found = next(iter(graphs.values())).preprocess, {}
    picture = np.random.default_rng(0).integers(0, 256, preprocess.empty(1, spec).shape, np.uint8)
    for name, graph in graphs.items():
        session = engine.open_session(
            graph.path, provider="cpu", threads=threads, name=name, tune={"session.intra_op.allow_spinning": "0"}
        )
        run = partial(session.run, ["features"], {spec.kind: picture})
        try:
            run()
        except Exception as problem:  # as in _best
            processes.say(f"{name}: {problem}")
            continue
        found[name] = run
    return found


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
    for setting, path in _quantized(row, tool, python).items():
        graph = row.as_graph(path)
        try:
            error = row.error(graph)
        except Exception as problem:  # onnxruntime's exceptions, of graphs that it does not run, share no base
            processes.say(f"{row.title}: {tool}, {setting}: {problem}")
            continue
        processes.say(f"{row.title}: {tool}, {setting}: error {error:.5f}")
        errors[error] = setting, graph
    return errors[min(errors)] if errors else None


def _quantized(row: Row, tool: str, python: str) -> dict[str, Path]:
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
