"""Run every benchmark, keep the documents in benchmarks/results/MACHINE/COMMIT.json, and write README's table anew.

    python -m benchmarks [--flowers DIR] [--fashion-mnist DIR] [--foreign DIR] [--digits DIR] [--texts DIR]
                         [--nncf PYTHON] [--keep] [NAME…]

With names, only those run, and nothing is kept unless --keep says so: then it is added to what was kept of this commit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import measure, processes, readme
from tledge import machine, places

NAMES = (
    *("startup", "resize_normalize", "preprocess", "pipeline", "head", "calibrate", "int8", "presets", "precision"),
    *("overhead", "gate", "latency", "train", "accuracy", "applications", "recipes", "finetune"),
    *("sounds", "texts", "questions", "gpu"),
)
_TAKES = {
    "accuracy": ("flowers",),
    "calibrate": ("nncf",),
    "latency": ("flowers",),
    "precision": ("flowers", "fashion_mnist", "foreign", "nncf"),
    "questions": ("texts",),
    "sounds": ("digits",),
    "texts": ("texts",),
    "train": ("flowers",),
}
_NOTHING_TO_MEASURE = 3
_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run, print, keep; exit with 1 when a benchmark could not run, whatever its claims came to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--flowers", type=Path, metavar="DIR", help="pictures for accuracy, latency, precision, train")
    parser.add_argument("--fashion-mnist", type=Path, metavar="DIR", help="idx files for precision")
    parser.add_argument("--digits", type=Path, metavar="DIR", help="recordings of spoken digits for sounds")
    parser.add_argument("--texts", type=Path, metavar="DIR", help="TREC's questions for questions, texts")
    parser.add_argument("--foreign", type=Path, metavar="DIR", help="ONNX files of others for precision")
    parser.add_argument(
        "--nncf", type=Path, metavar="PYTHON", help="an interpreter with NNCF, for calibrate, precision"
    )
    parser.add_argument("--keep", action="store_true", help="keep what the benchmarks named come to")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    commit = measure.commit()
    found = [_run(name, _options(name, arguments)) for name in arguments.names or NAMES]
    documents = [each for each in found if isinstance(each, dict)]
    for each in documents:
        print(f"\n{each['benchmark']} ({each['seconds']:.0f} s)")
        measure.show(each, as_json=False)
    if documents and (arguments.keep or not arguments.names):
        print(f"\nKept in {keep(documents, commit, _HERE / 'results')}")
        readme.write()
    sys.exit(0 if all(found) else 1)


def _options(name: str, arguments: argparse.Namespace) -> list[str | Path]:
    """Return what was given of that which benchmark `name` takes."""
    given = {option: getattr(arguments, option) for option in _TAKES.get(name, ())}
    # An interpreter of a virtual environment is a link: resolved, it would be another one.
    return [
        word for option, path in given.items() if path for word in (f"--{option.replace('_', '-')}", path.absolute())
    ]


def _run(name: str, options: list[str | Path]) -> dict[str, Any] | bool:
    """Return the document of one benchmark, run in a process of its own, or whether there was nothing to measure."""
    processes.say(f"── {name}")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *map(str, options)]
    done = subprocess.run(command, cwd=_HERE.parent, stdout=subprocess.PIPE, text=True)
    if done.returncode == _NOTHING_TO_MEASURE:
        processes.say(f"{name} is passed over on this machine.")
    return json.loads(done.stdout) if done.returncode == 0 else done.returncode == _NOTHING_TO_MEASURE


def keep(documents: Sequence[dict[str, Any]], commit: str, results: Path) -> Path:
    """Add `documents` to what `results` holds of this machine and `commit`, and return the file."""
    facts = machine.describe()
    target = results / measure.machine_slug(facts) / f"{commit[:12]}{'+' * commit.endswith('+')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(target.read_text())["benchmarks"] if target.is_file() else []
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {"commit": commit, "measured": measured, "machine": facts, "benchmarks": [*before, *documents]}
    places.write_whole(target, (json.dumps(kept, indent=2) + "\n").encode())
    return target


if __name__ == "__main__":
    main()
