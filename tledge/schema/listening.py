"""What `tledge listen` heard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """A class that was heard from `start_s` to `end_s`, in seconds of the stream; `end_s` is None while it lasts.

    `peak` is its highest smoothed score, which it had at `peak_s`.
    """

    label: str
    start_s: float
    end_s: float | None
    peak: float
    peak_s: float


@dataclass(frozen=True, slots=True)
class ListenResult:
    """The document of `tledge listen`. `on` and `off` are the thresholds of each class that was listened for.

    `audio_seconds` were heard in so many `windows` of `window_s`, `hop_s` apart. `work_seconds` are what decoding,
    resampling and the model took, without the wait for samples; `real_time_factor` is their share of the former, None
    when nothing was heard. `skipped_bytes` at the end of raw samples were no whole sample. `interrupted` says that the
    user ended it.
    """

    schema_version: int
    model: str
    provider: str
    input: str
    window_s: float
    hop_s: float
    smooth: int
    on: dict[str, float]
    off: dict[str, float]
    events: tuple[SoundEvent, ...]
    windows: int
    audio_seconds: float
    work_seconds: float
    real_time_factor: float | None
    skipped_bytes: int = 0
    interrupted: bool = False
