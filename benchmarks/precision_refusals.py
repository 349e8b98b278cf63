"""What must not be let through, and the memory of calibration: three of the claims of `benchmarks.precision`."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import calibrate, measure, processes
from benchmarks.precision_rows import Row
from benchmarks.precision_shelf import LITE, Shelf
from tledge.errors import ModelError
from tledge.runtime import Predictor

IMPOSSIBLE_POINTS = -50
MEMORY_BAR_GB, PICTURES = 1.5, 512
DAMAGES = 200
_FAILED = 1


def budget(shelf: Shelf) -> Iterator[dict[str, Any]]:
    """Yield in how many rows an export whose budget cannot be kept ends with 1 and leaves no file."""
    rows = [Row(shelf, name, shelf.data[min(1, len(shelf.data) - 1)]) for name in shelf.backbones]
    kept = sum(_refused(row) for row in rows)
    text = f"exports with --max-drop {IMPOSSIBLE_POINTS} that exit with 1 and write nothing, of {len(rows)} backbones"
    yield measure.claim(f"{text}: at least {len(rows)}", (kept,) * 3, at_least=len(rows))


def _refused(row: Row) -> bool:
    run = row.run()
    out = row.shelf.folder / "impossible" / "model.onnx"
    out.parent.mkdir(exist_ok=True)
    processes.say(f"{row.title}: exporting with a budget that cannot be kept")
    asked = ("--precision", "int8", "--min-agreement", "0", "--max-drop", str(IMPOSSIBLE_POINTS), "--json")
    try:
        processes.run(processes.tledge("export", run, "--out", out, *asked), row.shelf.cache, fine=(_FAILED,))
    except subprocess.CalledProcessError as error:
        processes.say(f"{row.title}: exited with {error.returncode}")
        return False
    return not list(out.parent.iterdir())


def memory(shelf: Shelf) -> Iterator[dict[str, Any]]:
    """Yield the peak of a process that calibrates on many pictures."""
    bench = calibrate.Bench(shelf.folder)
    for method in ("minmax", "percentile"):
        peak = bench.run("tledge", method, PICTURES)["peak_bytes"] / 1e9
        text = f"GB at the peak, {LITE[0]} calibrated on {PICTURES} pictures, {method}: at most {MEMORY_BAR_GB:g}"
        yield measure.claim(text, (peak,) * 3, at_most=MEMORY_BAR_GB)


def damage(shelf: Shelf) -> Iterator[dict[str, Any]]:
    """Yield how many of many damaged files are refused: one bit turned over, or the end cut off."""
    row = Row(shelf, shelf.backbones[0], shelf.data[0])
    whole = _exported(row).read_bytes()
    rng = random.Random(0)
    for what, damaged in (("single-bit flips", _flipped), ("truncations", _truncated)):
        processes.say(f"{DAMAGES} {what}")
        refused = sum(_is_refused(shelf.folder / "damaged.onnx", damaged(whole, rng)) for _ in range(DAMAGES))
        text = f"{what} of an exported file of {len(whole) / 1e6:.1f} MB that are refused, of {DAMAGES}"
        yield measure.claim(f"{text}: at least {DAMAGES}", (refused,) * 3, at_least=DAMAGES)


def _exported(row: Row) -> Path:
    out = row.shelf.folder / "damage.onnx"
    command = ("export", row.run(), "--out", out, "--precision", "int8", "--min-agreement", "0", "--force", "--json")
    processes.run(processes.tledge(*command), row.shelf.cache)
    Predictor(out)  # whole, it is taken
    return out


def _flipped(whole: bytes, rng: random.Random) -> bytes:
    bit = rng.randrange(8 * len(whole))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def _truncated(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole))]


def _is_refused(path: Path, content: bytes, load: Callable[[Path], Any] = Predictor) -> bool:
    path.write_bytes(content)
    try:
        load(path)
    except ModelError:
        return True
    return False
