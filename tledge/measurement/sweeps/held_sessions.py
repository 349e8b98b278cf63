"""Sessions of many settings, held open side by side for as long as the memory of the machine allows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tledge import engine, machine
from tledge.measurement.feeding.inputs import Feed
from tledge.measurement.subject import Subject, open_subject

_SHARE_OF_MEMORY = 1 / 4


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model file is run: `provider` and `threads` as in `engine.open_session`, `preset` one of its PRESETS."""

    model: Path
    provider: str
    threads: int
    preset: str
    batch: int


class HeldSessions:
    """Opens a model file once for each setting of its session, as `open_subject` does; batches share one.

    `opening_s` is what that took.

    When the process holds more than a quarter of the machine's memory after `release_if_large`, all are closed, and
    each opens again for its next turn.
    """

    def __init__(self, open_model: Callable[..., Subject] = open_subject) -> None:
        self.opening_s, self._open = 0.0, open_model
        self._limit = _SHARE_OF_MEMORY * int(str(machine.describe()["memory_bytes"]))
        self._held: dict[tuple[Path, str, int, str], Subject] = {}
        self._feeds: dict[tuple[Path, int], Feed] = {}

    def subject(self, setting: Setting) -> Subject:
        """Return the model of `setting`, opened. Raises ModelError or EngineError when it cannot be."""
        key = _key(setting)
        if key not in self._held:
            start = time.perf_counter()
            tune = engine.PRESETS[setting.preset]
            try:
                self._held[key] = self._open(
                    setting.model, provider=setting.provider, threads=setting.threads, tune=tune
                )
            finally:
                self.opening_s += time.perf_counter() - start
        return self._held[key]

    def feed(self, setting: Setting) -> Feed:
        """Return a batch for the model of `setting`; settings that take the same share it."""
        key = (setting.model, setting.batch)
        if key not in self._feeds:
            self._feeds[key] = self.subject(setting).feed(setting.batch)
        return self._feeds[key]

    def close_others(self, setting: Setting) -> bool:
        """Close all sessions if there are others than that of `setting`; return whether there were."""
        others = any(key != _key(setting) for key in self._held)
        if others:
            self._held.clear()
        return others

    def release_if_large(self) -> None:
        """Close all sessions if the process has become large."""
        if 0 < self._limit < _resident_bytes():
            self._held.clear()


def _key(setting: Setting) -> tuple[Path, str, int, str]:
    return setting.model, setting.provider, setting.threads, setting.preset


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
