"""Numbers, commands and findings in plain words."""

from __future__ import annotations

import math
import re
import shlex
from datetime import datetime
from pathlib import Path

from tledge.modalities import READERS
from tledge.report import tables
from tledge.schema import TrainResult

FILTERS = ("percent", "number", "count", "duration", "file_size", "moment")
_NARROW = "\u202f"  # keeps number and unit together
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def percent(share: float, digits: int = 1) -> str:
    """Return a share (0..1) as a percentage that says 0 or 100 only of none and all; no figure is a dash."""
    if not math.isfinite(share):
        return "–"
    shown, sign, step = round(share * 100, digits), "", 10.0**-digits
    if shown == 0 < share:
        shown, sign = step, "<"
    elif shown == 100 and share < 1:
        shown, sign = 100 - step, ">"
    return f"{sign}{shown:.{digits}f}{_NARROW}%"


def number(value: float) -> str:
    """Return a figure with three significant digits."""
    return f"{value:#.3g}".rstrip(".") if math.isfinite(value) else "–"


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}{_NARROW}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{_NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{_NARROW}min {rest}{_NARROW}s"


def file_size(size_bytes: int) -> str:
    """Return a size in kB or MB (powers of ten)."""
    return f"{size_bytes / 1e6:.1f}{_NARROW}MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f}{_NARROW}kB"


def moment(iso: str) -> str:
    """Return an ISO 8601 time as a reader would say it, or as it is when it is something else."""
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{when.day} {when:%B %Y, %H:%M %Z}".strip()


def printable(text: str) -> str:
    r"""Return `text` with everything that UTF-8 or HTML cannot hold written as `\xNN` or `\uNNNN`.

    Python keeps a byte of a file name that is not UTF-8 as a lone surrogate (PEP 383); it is shown as the byte.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def things(result: TrainResult) -> str:
    """Return what a user calls the samples of the run."""
    return f"{READERS[result.kind].noun}s"


def summary(result: TrainResult) -> str:
    """Return what the run found, in sentences that need no knowledge of the field."""
    tested = tables.tested(result)
    if not tested:
        unseen = f"nothing is known about how well this model does on {things(result)} it has not seen"
        return f"No {things(result)} were held out, so {unseen}."
    if result.multilabel:
        right = percent(tables.right(result) / tested)
        return f"Of {count(tested)} held-out samples, {right} were given all of their labels and no other."
    return " ".join(filter(None, [_accuracy(result, tested), _baseline(result, tested), _weakest(result)]))


def _accuracy(result: TrainResult, tested: int) -> str:
    correct = tables.right(result)
    return (
        f"On {count(tested)} held-out {things(result)} the model was right {count(correct)} times "
        f"({percent(correct / tested)})."
    )


def interval(result: TrainResult) -> str:
    """Return between which accuracies the truth lies with 95 % certainty, as far as so many test samples can tell."""
    tested = tables.tested(result)
    if not tested:
        return ""
    low, high = wilson(tables.right(result), tested)
    return f"{low * 100:.1f} to {percent(high)}"


def _baseline(result: TrainResult, tested: int) -> str:
    largest = max(result.metrics.per_class, key=lambda each: each.support)
    return f"Always answering “{largest.name}” would be right {percent(largest.support / tested)} of the time."


def _weakest(result: TrainResult) -> str:
    weakest = min((each for each in result.metrics.per_class if each.support), key=lambda each: each.recall)
    if weakest.recall == 1.0:
        return ""
    missed = percent(1 - weakest.recall)
    return f"It misses “{weakest.name}” most often: {missed} of its {things(result)} were taken for another class."


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval (low, high) of a proportion, each 0..1. Source: Wilson 1927, JASA 22(158)."""
    z, share = 1.959964, hits / trials
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def repeat(result: TrainResult) -> str:
    """Return the command that repeats the run."""
    return shlex.join(["tledge", "train", "--config", str(Path(result.run) / "run.json")])


def next_commands(result: TrainResult) -> list[tuple[str, str]]:
    """Return (what for, command) for what a user is likely to do next."""
    edge = f"{Path(result.run).name}-edge.onnx"
    return [
        (
            "Make a small, fast file for the edge box",
            _join("export", result.run, "--precision", "int8", "--out", edge),
        ),
        ("Check that the model file is whole and answers as it did here", _join("verify", result.model)),
        ("Measure how fast it runs on this machine", _join("bench", result.model)),
        (f"Label new {things(result)}", f"{_join('predict', result.model)} {READERS[result.kind].example}"),
    ]


def _join(*words: str) -> str:
    return shlex.join(["tledge", *words])
