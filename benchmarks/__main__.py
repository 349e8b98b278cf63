"""Run every benchmark, keep the documents in benchmarks/results/MACHINE/COMMIT.json, and print the table.

    python -m benchmarks [--flowers DIR] [NAME…]

With names, only those run, and nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import measure, processes
from tledge import machine

NAMES = (
    *("startup", "resize_normalize", "preprocess", "pipeline", "head", "calibrate", "int8", "precision"),
    *("train_time", "accuracy", "applications", "recipes", "finetune", "gpu"),
)
_NOTHING_TO_MEASURE = 3
_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run, print, keep; exit with 1 when a benchmark could not run, whatever its claims came to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--flowers", type=Path, metavar="DIR", help="pictures for the benchmark accuracy")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    commit = measure.commit()
    options = {"accuracy": ["--flowers", arguments.flowers.resolve()]} if arguments.flowers else {}
    found = [_run(name, options.get(name, [])) for name in arguments.names or NAMES]
    documents = [each for each in found if isinstance(each, dict)]
    for each in documents:
        print(f"\n{each['benchmark']} ({each['seconds']:.0f} s)")
        measure.show(each, as_json=False)
    if not arguments.names:
        print(f"\nKept in {_keep(documents, commit)}")
    sys.exit(0 if all(found) else 1)


def _run(name: str, options: list[str | Path]) -> dict[str, Any] | bool:
    """Return the document of one benchmark, run in a process of its own, or whether there was nothing to measure."""
    processes.say(f"── {name}")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *map(str, options)]
    done = subprocess.run(command, cwd=_HERE.parent, stdout=subprocess.PIPE, text=True)
    if done.returncode == _NOTHING_TO_MEASURE:
        processes.say(f"{name} is passed over on this machine.")
    return json.loads(done.stdout) if done.returncode == 0 else done.returncode == _NOTHING_TO_MEASURE


def _keep(documents: list[dict[str, Any]], commit: str) -> Path:
    facts = machine.describe()
    target = _HERE / "results" / measure.machine_slug(facts) / f"{commit[:12]}{'+' * commit.endswith('+')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = {"commit": commit, "machine": facts, "benchmarks": documents}
    target.write_text(json.dumps(kept, indent=2) + "\n")
    return target


if __name__ == "__main__":
    main()
