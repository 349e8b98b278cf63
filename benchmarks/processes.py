"""Whole processes, timed from the outside as a user meets them, each benchmark with a cache folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import places

BACKBONE = "efficientnet_lite0"
_CONVERT = """
import sys
from tledge import backbones, places
print(backbones.load(sys.argv[1], places.cache_dir()).path)
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended well: its wall time, start-up included, and what it wrote to standard output."""

    seconds: float
    output: str

    def document(self) -> dict[str, Any]:
        """Return the JSON document that the process printed."""
        return json.loads(self.output)


def run(command: Sequence[str | Path], cache: Path, fine: Sequence[int] = (0,)) -> Finished:
    """Run `command` to its end with `cache` as its cache folder; standard error passes through.

    It starts in `cache`, so that it finds the installed package and not whatever lies in the current folder.
    Raises CalledProcessError when its exit code is not among `fine`.
    """
    words = [str(word) for word in command]
    start = time.perf_counter()
    done = subprocess.run(words, cwd=cache, env=_environment(cache), stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    if done.returncode not in fine:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout)
    return Finished(seconds, done.stdout)


@contextmanager
def start(command: Sequence[str | Path], cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Start `command` as `run` does and talk with it over its standard input and output; end it with the block."""
    words = [str(word) for word in command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=cache, env=_environment(cache), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def _environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "TLEDGE_CACHE_DIR": str(cache)}


def python(code: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command that runs `code` in a fresh interpreter of this environment."""
    return [sys.executable, "-c", code, *arguments]


def tledge(*arguments: str | Path) -> list[str | Path]:
    """Return the command `tledge ARGUMENTS` of this environment."""
    script = Path(sys.executable).parent / "tledge"
    return [*([script] if script.is_file() else [sys.executable, "-m", "tledge"]), *arguments]


@contextmanager
def workspace() -> Iterator[Path]:
    """Yield a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="tledge-bench-") as folder:
        yield Path(folder)


def new_cache(folder: Path) -> Path:
    """Make a cache folder in `folder` that holds the converted backbone alone, and return it.

    The backbone comes from the user's own cache folder, where it is converted first if need be: that takes half a
    minute, and is no part of any claim.
    """
    converted = run(python(_CONVERT, BACKBONE), places.cache_dir().resolve()).output.splitlines()[-1]
    cache = Path(tempfile.mkdtemp(prefix="cache-", dir=folder))
    (cache / "backbones").mkdir()
    stem = Path(converted).name.rpartition("-")[0]
    for kept in Path(converted).parent.glob(f"{stem}-*"):  # the graph, and the facts beside it
        shutil.copy(kept, cache / "backbones")
    return cache


def say(words: str) -> None:
    """Tell on standard error where a benchmark is."""
    print(words, file=sys.stderr, flush=True)
