"""Progress on a terminal: what is being done, how far, how fast, and how long it will take."""

from __future__ import annotations

import time
from typing import Any, TextIO

_REFRESH_S = 0.1


class Bar:
    """Shows one stage at a time on `stream`; call it with (words, done, total), total 0 where nobody knows.

    It moves when it is called and at no other time: a thread that turned a spinner would take its share of the cores
    while latency is measured.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
            auto_refresh=False,
        )
        self._progress.start()
        self._words: str | None = None
        self._task: Any = None
        self._shown = 0.0

    def __call__(self, words: str, done: int, total: int) -> None:
        if words != self._words:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(words, total=total or None, rate="")
            self._words, self._shown = words, 0.0
        speed = next(task.speed for task in self._progress.tasks if task.id == self._task)
        self._progress.update(self._task, completed=done, total=total or None, rate=f"{speed:.0f}/s" if speed else "")
        if time.monotonic() - self._shown >= _REFRESH_S or done == total:
            self._progress.refresh()
            self._shown = time.monotonic()

    def close(self) -> None:
        """Take the bar off the screen."""
        self._progress.stop()


class Lines:
    """Writes the words of each stage on `stream`, once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._words = stream, ""

    def __call__(self, words: str, done: int, total: int) -> None:
        if words != self._words:
            self._stream.write(f"{words}\n")
        self._words = words

    def close(self) -> None:
        """Leave the lines where they are."""


class Quiet:
    """Shows nothing."""

    def __call__(self, words: str, done: int, total: int) -> None:
        pass

    def close(self) -> None:
        """Do nothing."""


def choose(stream: TextIO, *, moving: bool, verbose: bool) -> Bar | Lines | Quiet:
    """Return what shows progress on `stream`: a bar where things may move, lines to say more, or nothing."""
    if moving:
        return Bar(stream)
    return Lines(stream) if verbose else Quiet()
