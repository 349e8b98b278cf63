"""Time per stage, and the words to tell a person or a progress bar where a command is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# (stage, done, total); total 0 means that nobody knows how long the stage takes.
Progress = Callable[[str, int, int], None]
Note = Callable[[str], None]


class Clock:
    """Measures named stages of one command in seconds."""

    def __init__(self, on_progress: Progress | None = None, on_note: Note | None = None) -> None:
        self._start = time.perf_counter()
        self._on_progress, self._on_note = on_progress, on_note
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, words: str = "") -> Iterator[None]:
        """Time the block as `name`, and tell the listener `words`."""
        if words:
            self.tell(words, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - start

    def tell(self, words: str, done: int, total: int) -> None:
        """Tell the listener that `done` of `total` things of a stage are behind us."""
        if self._on_progress:
            self._on_progress(words, done, total)

    def note(self, words: str) -> None:
        """Tell the listener something that should stay to be read."""
        if self._on_note:
            self._on_note(words)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage so far, and `total` since the clock was made."""
        return {**self._stages, "total": time.perf_counter() - self._start}
