"""Claim: int8 keeps the accuracy, wins back what it lost, is no worse and no slower than that of others, and is safe.

    python -m benchmarks.precision [--json] [--only CLAIM,…] [--flowers DIR] [--fashion-mnist DIR] [--foreign DIR]
                                   [--nncf PYTHON] [--backbones NAME,…] [--data NAME,…] [--keep DIR]

Backbones: efficientnet_lite0, 1 and 2 with their ImageNet weights; two ONNX files of others, where --foreign names
their folder; two Keras applications with random weights, since theirs are downloaded. Data: ELPV, a quarter held out;
five kinds of flowers, likewise, from DIR/train and DIR/val; Fashion-MNIST, 5,000 and 2,000 pictures of its idx files.
What was not given is left out, and said. NNCF lives in an environment of its own.

Beside peers, and for the four ways, every sample is tested once, in four folds, by heads that were fitted without it;
the drop is that which `tledge export` measures on the held-out part, for three splits. A difference of a few samples
says little: so the error of the features stands beside it, and what chance explains of a lead (McNemar).

CLAIM is one of drop, per_tensor, ways, peers, speed, budget, memory, damage. All of them take two hours on two cores;
--keep leaves graphs and features in a folder, so that a later run goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import precision_peers, precision_refusals, precision_speed, precision_ways, processes, script
from benchmarks.precision_shelf import DATA, Shelf

Claims = Iterator[dict[str, Any]]
CLAIMS: dict[str, Callable[[Shelf, argparse.Namespace], Claims]] = {
    "drop": lambda shelf, _: precision_ways.drop(shelf),
    "per_tensor": lambda shelf, _: precision_ways.per_tensor(shelf),
    "ways": lambda shelf, _: precision_ways.ways(shelf),
    "peers": precision_peers.accuracy,
    "speed": precision_speed.speed,
    "budget": lambda shelf, _: precision_refusals.budget(shelf),
    "memory": lambda shelf, _: precision_refusals.memory(shelf),
    "damage": lambda shelf, _: precision_refusals.damage(shelf),
}


def claims(arguments: argparse.Namespace) -> Claims:
    """Yield the claims asked for."""
    if not precision_peers.has_nncf(arguments.nncf):
        processes.say("NNCF is left out: it is not installed. Name the Python of an environment with it: --nncf PYTHON")
    with contextlib.ExitStack() as stack:
        folder = arguments.keep.resolve() if arguments.keep else stack.enter_context(processes.workspace())
        shelf = Shelf(folder, arguments)
        for name in arguments.only:
            yield from _told(CLAIMS[name](shelf, arguments))


def _told(found: Claims) -> Claims:
    """Pass claims on, and tell each as it is found: all together come late."""
    for each in found:
        figure = each.get("ratio", each.get("value"))
        processes.say(f"   {figure:.4g} [{each['low']:.4g}, {each['high']:.4g}] {each['claim']}")
        yield each


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("--only", type=_names(CLAIMS), default=list(CLAIMS), metavar="CLAIM,…", help=", ".join(CLAIMS))
    parser.add_argument("--flowers", type=Path, metavar="DIR", help="pictures of flowers: DIR/train|val/class/…")
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR", help="the idx files of Fashion-MNIST")
    parser.add_argument("--foreign", type=Path, metavar="DIR", help="ONNX files of others")
    parser.add_argument("--nncf", default=sys.executable, metavar="PYTHON", help="an interpreter that has NNCF")
    parser.add_argument("--backbones", type=_names(), default=[], metavar="NAME,…", help="these alone")
    parser.add_argument("--data", type=_names(DATA), default=list(DATA), metavar="NAME,…", help=", ".join(DATA))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep graphs and features there")


def _names(known: Any = None) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if known and name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return names

    return split


if __name__ == "__main__":
    script.main("precision", __doc__, claims, add_options)
