"""What benchmarks share: interleaved timing, ratios with their spread, and the document that `--json` prints."""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tledge import machine

Spread = tuple[float, float, float]
_RESULTS = "benchmarks/results"


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


def spread(values: Iterable[float], middle: Callable[[list[float]], float] = statistics.median) -> Spread:
    """Return the `middle` of `values`, the smallest and the largest."""
    listed = [float(value) for value in values]
    return middle(listed), min(listed), max(listed)


def claim(
    text: str,
    found: Spread,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    kind: Literal["ratio", "value"] = "value",
) -> dict[str, Any]:
    """Return one entry of a document; without a bar it only states, and `bar` and `holds` are None.

    A value holds when it reaches the bar itself: low and high tell how its repetitions spread. A ratio holds when the
    worse end of its interval does.
    """
    middle, low, high = found
    bar, holds = None, None
    if at_least is not None:
        bar, holds = at_least, (low if kind == "ratio" else middle) >= at_least
    elif at_most is not None:
        bar, holds = at_most, (high if kind == "ratio" else middle) <= at_most
    figures = {kind: round(middle, 4), "low": round(low, 4), "high": round(high, 4)}
    return {"claim": text, **figures, "bar": bar, "holds": holds}


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
    """Return the commit of this checkout, with "+" behind it where files differ from it; "unknown" outside of git.

    Kept results do not count: writing them would make every later measurement look like one of other code.
    """
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", ":/", f":(top,exclude){_RESULTS}") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def machine_slug(facts: Mapping[str, Any]) -> str:
    """Return a short folder name for the machine that `machine.describe` described, such as amd-epyc-2c."""
    name = re.sub(r"\((r|tm)\)|@.*|\b(cpu|processor|\d+-core)\b", " ", str(facts["cpu"]).lower())
    words = re.findall(r"[a-z0-9]+", name)
    return "-".join([*words[:4], f"{facts['cores']}c"])


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Print the document as JSON, or one line for each claim; progress belongs on stderr."""
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    for each in result["claims"]:
        print(_line(each))


def _line(each: Mapping[str, Any]) -> str:
    value = each.get("ratio", each.get("value"))
    verdict = {True: "holds", False: "DOES NOT HOLD", None: "stated"}[each["holds"]]
    bar = "" if each["bar"] is None else f"bar {each['bar']:g}"
    between = "" if each["low"] == each["high"] else f"{each['low']:.4g} to {each['high']:.4g}"
    return f"{value:8.4g}  {between:18}  {bar:8}  {verdict:13}  {each['claim']}"
