"""How fast int8 is, beside float and beside the int8 of others: two of the claims of `benchmarks.precision`."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import measure, processes
from benchmarks.precision_peers import quantized_by, tools
from benchmarks.precision_rows import Row
from benchmarks.precision_shelf import Shelf
from tledge import engine, machine
from tledge.schema import Backbone

SPEED_BAR = 2.0
GLANCES, RUNS, SESSIONS = 20, 60, 5  # runs of each graph, in turn; sessions in which they are run


def speed(shelf: Shelf, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield how fast int8 is against float, and against the int8 of each peer in whichever setting is fastest."""
    vnni = "without" if machine.saturates_int8() else "with"
    for name in shelf.backbones:
        row = Row(shelf, name, shelf.data[0])
        graphs = {"float": row.backbone, "tledge": row.quantized()[0]}
        for tool, python in tools(arguments.nncf).items():
            found = quantized_by(row, tool.lower(), python)
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
    picture = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
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
