"""What `tledge listen` hears, for people."""

from __future__ import annotations

from typing import Any

from tledge.cli.tables import line
from tledge.schema import ListenResult, SoundEvent


def event(heard: SoundEvent, console: Any) -> None:
    """Show an event that begins, or one that has ended."""
    if heard.end_s is None:
        line(console, f"{heard.start_s:9.2f} s  begins  {heard.label}  {heard.peak:.2f}")
    else:
        peak = f"from {heard.start_s:.2f} s, peak {heard.peak:.2f} at {heard.peak_s:.2f} s"
        line(console, f"{heard.end_s:9.2f} s  ends    {heard.label}  {peak}")


def listen(result: ListenResult, console: Any) -> None:
    """Show how much was heard, and how fast; the events were shown as they came."""
    said = f"{len(result.events)} events in {result.audio_seconds:.2f} s of sound, {result.windows} windows"
    if result.real_time_factor is not None:
        said += f"; {result.work_seconds:.2f} s of work, real-time factor {result.real_time_factor:.3f}"
    line(console, f"{said}.")
    if result.skipped_bytes:
        line(console, f"The last {result.skipped_bytes} bytes were no whole sample of every channel.")
    if result.interrupted:
        line(console, "Interrupted.")
