"""What benchmarks share: interleaved timing, ratios with their spread, and the document that `--json` prints."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tledge import machine

Spread = tuple[float, float, float]


def interleave(callables: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every callable once in each round, after one untimed round; returns seconds by name, in order of rounds.

    What slows the machine down for a while then hits all alike. Every other round goes backwards, so that none always
    runs in another's wake.
    """
    names = list(callables)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            start = time.perf_counter()
            callables[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(a: Sequence[float], b: Sequence[float]) -> Spread:
    """Return the median of a[i] / b[i], and the ends of its 95 % confidence interval.

    With seconds of the same rounds, it is how many times as fast `b` was. The interval is the distribution-free one
    between two order statistics; with fewer than eleven rounds it is the whole range. Source: Conover, Practical
    Nonparametric Statistics, 3rd ed., section 3.2.
    """
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    reach = 0.98 * math.sqrt(len(ratios))
    low = max(math.floor(len(ratios) / 2 - reach) - 1, 0)
    return statistics.median(ratios), ratios[low], ratios[len(ratios) - 1 - low]


def claim(text: str, spread: Spread, bar: float) -> dict[str, Any]:
    """Return one entry of a document: it holds when even the low end of `spread` reaches `bar`."""
    median, low, high = (round(value, 3) for value in spread)
    return {"claim": text, "ratio": median, "low": low, "high": high, "bar": bar, "holds": low >= bar}


def document(name: str, claims: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what `python -m benchmarks.NAME --json` prints; `seconds` is how long the benchmark took."""
    return {
        "benchmark": name,
        "claims": list(claims),
        "machine": machine.describe(),
        "commit": commit(),
        "seconds": round(seconds, 1),
    }


def commit() -> str:
    """Return the commit of this checkout, with "+" behind it where files differ from it; "unknown" outside of git."""
    try:
        return _git("rev-parse", "HEAD") + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def show(result: dict[str, Any], as_json: bool) -> None:
    """Print the document as JSON, or one line for each claim; progress belongs on stderr."""
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for each in result["claims"]:
        value, verdict = each.get("ratio", each.get("value")), "holds" if each["holds"] else "DOES NOT HOLD"
        spread = f"{each['low']:.2f} to {each['high']:.2f}"
        print(f"{value:8.2f}  ({spread}, bar {each['bar']:g}: {verdict})  {each['claim']}")
