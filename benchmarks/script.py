"""The part that every `python -m benchmarks.NAME` has in common: its options, its clock and its document."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import measure
from tledge.errors import TledgeError


def main(
    name: str,
    about: str,
    claims: Callable[[argparse.Namespace], Iterable[dict[str, Any]]],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Parse the command line, collect what `claims` yields, and print the document of benchmark `name`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_options(parser)
    arguments = parser.parse_args()
    start = time.perf_counter()
    try:
        found = list(claims(arguments))
    except TledgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except subprocess.CalledProcessError as error:  # it has said why on standard error
        print(f"error: {shlex.join(error.cmd)} exited with {error.returncode}", file=sys.stderr)
        sys.exit(1)
    measure.show(measure.document(name, found, time.perf_counter() - start), arguments.json)
