"""The files that `tledge bench` writes beside what it prints."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tledge import documents, places
from tledge.commands import bench_history
from tledge.errors import MissingExtra, OutputError
from tledge.report import benches
from tledge.schema import BenchResult, HistoryGroup

_NEEDED = {"junit": ("junitparser",), "html": ("jinja2", "pygal"), "history": ("ruptures",)}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where to write the document, and what is made of it; `history` is the folder of earlier documents for `html`."""

    save: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None
    history: Path | None = None

    def files(self) -> dict[str, Path]:
        """Return the files to write by the names of their options."""
        named = {"save": self.save, "junit": self.junit, "markdown": self.markdown, "html": self.html}
        return {name: path for name, path in named.items() if path}


def outputs(**paths: str | Path | None) -> Outputs:
    """Return where the options say that outputs go."""
    return Outputs(**{name: places.at(path) if path else None for name, path in paths.items()})


def check(wanted: Outputs, *models: Path, force: bool) -> None:
    """Find out now, not after the measurement, that something cannot be written.

    Raises OutputError when a place is taken, named twice, or one of the `models`; MissingExtra when a package is
    missing; DataError when there is no folder of history.
    """
    for name in (*wanted.files(), *(("history",) if wanted.history else ())):
        for package in _NEEDED.get(name, ()):
            if find_spec(package) is None:
                raise MissingExtra(package, "bench")
    if wanted.history and not wanted.html:
        raise OutputError("--history is shown on a page, and none is to be written.", "Name one with --html.")
    taken = {os.path.realpath(model): "the model" for model in models}
    for name, path in wanted.files().items():
        if (whose := taken.setdefault(os.path.realpath(path), f"--{name}")) != f"--{name}":
            raise OutputError(f"--{name} would write over {path}, which is {whose}.", "Choose another place.")
        places.check_free_file(path, force=force)
    if wanted.history:
        bench_history.read(wanted.history)


def write(wanted: Outputs, result: BenchResult, old: dict[str, Any] | None) -> None:
    """Write every output that is wanted, each whole or not at all; `old` is the document that `result` is held against.

    Raises OutputError when one cannot be written.
    """
    document = documents.plain(result)
    makers: dict[str, Callable[[], bytes]] = {
        "save": lambda: documents.to_json(result).encode(),
        "junit": lambda: benches.junit(document),
        "markdown": lambda: benches.markdown(document, old).encode(errors="backslashreplace"),
        "html": lambda: benches.page(document, old, _history(wanted, document)).encode(),
    }
    for name, path in wanted.files().items():
        places.write_whole(path, makers[name]())


def _history(wanted: Outputs, document: dict[str, Any]) -> HistoryGroup | None:
    """Return the group of `document` among the documents of the folder, it itself being the last of them."""
    if not wanted.history:
        return None
    found, _ = bench_history.read(wanted.history)
    found = {path: each for path, each in found.items() if each["created"] != document["created"]}
    mine = bench_history.key(document)
    together = {path: each for path, each in found.items() if bench_history.key(each) == mine}
    (group,) = bench_history.groups({**together, "this one": document})
    return group
