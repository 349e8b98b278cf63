"""A model over the windows of a stream, and the events among its scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from tledge.commands.listening import pcm
from tledge.commands.listening.events import Hysteresis, RunningMean
from tledge.commands.listening.settings import Settings
from tledge.commands.listening.windows import Window
from tledge.runtime import Predictor
from tledge.schema import SoundEvent

_SETTLED_S = 5.0  # of sound, before it is said that the work cannot keep up
_LOG = logging.getLogger("tledge")


class Hearing:
    """What was heard until now, and what it took."""

    def __init__(
        self,
        predictor: Predictor,
        asked: Settings,
        raw: pcm.PcmStream | None,
        on_event: Callable[[SoundEvent], None] | None,
    ) -> None:
        self._predictor, self._raw, self._on_event = predictor, raw, on_event
        self._rate = predictor.manifest.preprocess.rate
        self._mean = RunningMean(asked.smooth)
        self._hysteresis = Hysteresis(asked.on, asked.off, asked.min_seconds)
        self._start, self._told_late = time.perf_counter(), False
        self.events: list[SoundEvent] = []
        self.windows, self._until = 0, 0

    @property
    def audio_s(self) -> float:
        """Return how many seconds of sound went through the model."""
        return self._until / self._rate

    @property
    def work_s(self) -> float:
        """Return what it took until now in seconds, but for the wait for samples."""
        return time.perf_counter() - self._start - (self._raw.waited_s if self._raw else 0.0)

    def run(self, stream: Iterable[Window]) -> None:
        """Hear `stream` to its end."""
        for window in stream:
            self._take(window)
            self.tell_late(_SETTLED_S)

    def finish(self) -> None:
        """End the events that still last."""
        self._tell(self._hysteresis.finish(self.audio_s))

    def tell_late(self, after_s: float) -> None:
        """Warn, once and after so much sound, when the work takes longer than the sound."""
        if not self._told_late and self.audio_s > after_s and self.work_s > self.audio_s:
            self._told_late = True
            factor = self.work_s / self.audio_s
            _LOG.warning("The real-time factor is %.1f: a live stream falls behind. Take a longer --hop.", factor)

    def _take(self, window: Window) -> None:
        # Each by itself, as it comes from a microphone: results cannot depend on how much came at once.
        (row,) = self._predictor.run_windows([self._predictor.reader.windows(window.samples)])
        self.windows, self._until = self.windows + 1, window.end
        middle = (window.start + window.end) / 2 / self._rate
        at, scores = self._mean.take(middle, row)
        named = dict(zip(self._predictor.classes, scores.tolist(), strict=True))
        self._tell(self._hysteresis.take(at, named))

    def _tell(self, events: Iterator[SoundEvent]) -> None:
        for event in events:
            if event.end_s is not None:
                self.events.append(event)
            if self._on_event:
                self._on_event(event)
