"""Claim: `tledge --help` takes 0.15 s at most and loads no engine, the first prediction of a fresh process 0.5 s.

    python -m benchmarks.startup [--json]

Whole processes, in turn, after one round that warms the system's file cache. `import tledge.runtime` loads no training
code. The memory that each one takes is stated without a bar; the model is ELPV's, int8.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import datasets, measure, processes, script

_FIRST = "first prediction with tledge.runtime"
BARS_S = {"tledge --help": 0.15, _FIRST: 0.5}
ROUNDS = 10
PICTURES = 20  # of each class: start-up does not depend on how good the model is

_HELP = "import sys; sys.argv = ['tledge', '--help']; from tledge.cli import main; main()"
_IMPORT = "import tledge.runtime"
_PREDICT = "import sys; from tledge.runtime import Predictor; Predictor(sys.argv[1])([sys.argv[2]])"
_HEAVY = ("tensorflow", "onnx", "onnxruntime")
_NOT_AT_RUNTIME = ("tensorflow", "onnx", "typer", "matplotlib")
# A child's ru_maxrss starts at what its parent had; the high-water mark in /proc is its own.
_AT_EXIT = """
import atexit, resource, sys
def _tell():
    try:
        peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    print("\\n" + " ".join([str(peak), *sys.modules]))
atexit.register(_tell)
"""


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a claim for the time of each process, and for what it loads and the memory it takes."""
    with processes.workspace() as folder:
        cache = processes.new_cache(folder)
        model, picture = _model(cache, folder)
        commands = {
            "python -c pass": processes.python("pass"),
            "tledge --help": processes.tledge("--help"),
            _IMPORT: processes.python(_IMPORT),
            _FIRST: processes.python(_PREDICT, model, picture),
            "tledge predict, one picture": processes.tledge("predict", model, picture),
        }
        processes.say(f"starting {len(commands)} kinds of processes {ROUNDS + 1} times")
        calls = {name: lambda command=command: processes.run(command, cache) for name, command in commands.items()}
        yield from _times(measure.interleave(calls, ROUNDS))
        yield from _modules("tledge --help", _look(cache, _HELP), _HEAVY)
        yield from _modules(_IMPORT, _look(cache, _IMPORT), _NOT_AT_RUNTIME)
        yield _memory(_FIRST, _look(cache, _PREDICT, model, picture)[0])


def _times(seconds: dict[str, list[float]]) -> Iterator[dict[str, Any]]:
    for name, values in seconds.items():
        bar = BARS_S.get(name)
        text = f"{name}, whole process in s, median of {ROUNDS}" + (f": at most {bar}" if bar else "")
        yield measure.claim(text, measure.spread(values), at_most=bar)


def _modules(name: str, found: tuple[int, set[str]], banned: Sequence[str]) -> Iterator[dict[str, Any]]:
    peak, modules = found
    text = f"{name}, how many of {', '.join(banned)} it loads: at most 0 (it loads {', '.join(sorted(modules))})"
    yield measure.claim(text, (len(modules & set(banned)),) * 3, at_most=0)
    yield _memory(name, peak)


def _memory(name: str, peak_bytes: int) -> dict[str, Any]:
    return measure.claim(f"{name}, peak memory in MB", (peak_bytes / 1e6,) * 3)


def _look(cache: Path, code: str, *arguments: str | Path) -> tuple[int, set[str]]:
    """Run `code` in a fresh interpreter; return its peak memory in bytes and the packages that it loaded."""
    output = processes.run(processes.python(f"{_AT_EXIT}\n{code}", *arguments), cache).output
    return parse_look(output.splitlines()[-1])


def parse_look(line: str) -> tuple[int, set[str]]:
    """Return bytes and packages of "KiB module module.part …", without tledge, Python's own and private ones."""
    kibibytes, *modules = line.split()
    packages = {module.partition(".")[0] for module in modules}
    return 1024 * int(kibibytes), {name for name in packages if _is_package(name)}


def _is_package(name: str) -> bool:
    return name not in sys.stdlib_module_names and name != "tledge" and not name.startswith("_")


def _model(cache: Path, folder: Path) -> tuple[Path, Path]:
    """Return an int8 model of a few pictures, and one of them."""
    processes.say("training a small model")
    pictures, run, model = datasets.elpv(folder / "elpv", PICTURES), folder / "run", folder / "model.onnx"
    processes.run(processes.tledge("train", pictures, "--out", run, "--json"), cache)
    processes.run(processes.tledge("export", run, "--out", model, "--min-agreement", "0", "--json"), cache)
    return model, next(pictures.glob("*/*.png"))


if __name__ == "__main__":
    script.main("startup", __doc__, claims)
