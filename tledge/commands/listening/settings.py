"""What to listen for: classes, their thresholds, how far windows are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tledge.errors import TledgeError, did_you_mean
from tledge.runtime import Predictor
from tledge.schema import SoundSpec

# Models of clips expect the sound in the middle: with few windows hardly one has it there, and their mean has it never
# (docs/sounds.md has the figures that these were chosen by).
SMOOTH = 3
_WINDOWS_AT_ONCE = 12
_ON = 0.5
_OFF_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Settings:
    """What to listen for; `hop` in samples."""

    hop: int
    smooth: int
    on: dict[str, float]
    off: dict[str, float]
    min_seconds: float


def settings(
    predictor: Predictor,
    *,
    hop: float | None,
    smooth: int,
    on: float | None,
    off: float | None,
    min_seconds: float,
    labels: Sequence[str],
    ignore: Sequence[str],
) -> Settings:
    """Return what is asked of `listen`. Raises TledgeError for a number or a label that cannot be."""
    thresholds = _thresholds(predictor, _named(predictor, labels, ignore), on, off)
    asked = Settings(_hop(hop, predictor.manifest.preprocess), smooth, *thresholds, min_seconds)
    _check(asked)
    return asked


def _hop(seconds: float | None, spec: SoundSpec) -> int:
    window_s = spec.samples / spec.rate
    if seconds is None:
        return max(1, spec.samples // _WINDOWS_AT_ONCE)
    if not 0 < seconds <= window_s or round(seconds * spec.rate) < 1:
        raise TledgeError(f"--hop must be above 0 and at most a window, {window_s:g} s; got {seconds:g}.")
    return round(seconds * spec.rate)


def _named(predictor: Predictor, labels: Sequence[str], ignore: Sequence[str]) -> list[str]:
    for label in (*labels, *ignore):
        if label not in predictor.classes:
            raise TledgeError(f"The model has no class '{label}'.", did_you_mean(label, predictor.classes))
    found = [label for label in predictor.classes if label in (labels or predictor.classes) and label not in ignore]
    if not found:
        raise TledgeError("A class to listen for is needed, found none.", "Leave out --ignore, or one of its classes.")
    return found


def _thresholds(
    predictor: Predictor, labels: Sequence[str], on: float | None, off: float | None
) -> tuple[dict[str, float], dict[str, float]]:
    own = dict(zip(predictor.classes, predictor.manifest.thresholds, strict=False))
    begins = {label: own.get(label, _ON) if on is None else on for label in labels}
    return begins, {label: _OFF_SHARE * bar if off is None else off for label, bar in begins.items()}


def _check(asked: Settings) -> None:
    for label, bar in asked.on.items():
        if not 0 < bar <= 1:
            raise TledgeError(f"--on must be above 0 and at most 1, got {bar:g} for '{label}'.", "Give another --on.")
        if not 0 <= asked.off[label] <= bar:
            found = f"got {asked.off[label]:g} for '{label}', whose --on is {bar:g}"
            raise TledgeError(f"--off must be at least 0 and at most --on, {found}.", "Give another --off.")
    if asked.smooth < 1:
        raise TledgeError(f"--smooth must be 1 window or more, got {asked.smooth}.")
    if not 0 <= asked.min_seconds < math.inf:
        raise TledgeError(f"--min-seconds must be 0 or more, got {asked.min_seconds:g}.")
