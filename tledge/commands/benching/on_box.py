"""What `tledge bench` measures beside the scenarios: end to end, cold start, memory, processor time, energy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import engine, places
from tledge.commands.clock import Clock
from tledge.measurement.box import cold_start, conditions, made_up_files, resources, sample_files, stages
from tledge.measurement.box.sample_files import SampleFiles
from tledge.measurement.subject import Subject
from tledge.schema import BoxBudgets, Conditions, SingleStream

_RESOURCES_S = 2.0  # enough for memory and processor time to settle


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: end to end with `pictures`, if there are any, and whether the others too."""

    samples: tuple[SampleFiles, ...]
    cold_start: bool
    resources: bool


def plan(
    subject: Subject,
    limits: BoxBudgets,
    *,
    end_to_end: bool,
    samples: str | Path | None,
    cold_start: bool,
    resources: bool,
) -> Plan:
    """Return what is asked for, or needed to judge `limits`; `samples` are those of `end_to_end`, made up without.

    Raises TledgeError, before anything is measured, when the model is not one to measure end to end, DataError when
    there are no samples.
    """
    files: tuple[SampleFiles, ...] = ()
    if end_to_end or samples is not None:
        reader = stages.predictor_of(subject).reader
        files = made_up_files.made_up(reader) if samples is None else (sample_files.given(places.at(samples), reader),)
    return Plan(
        files, cold_start or limits.max_cold_start_ms is not None, resources or limits.max_memory_mb is not None
    )


def measure(asked: Plan, subject: Subject, provider: str, seconds: float, clock: Clock) -> dict[str, Any]:
    """Return end_to_end, cold_start and resources of a BenchResult.

    `provider` is the one that was asked for, `seconds` what a scenario has.
    """
    provider = engine.resolved(provider, subject.session)
    found: dict[str, Any] = {"end_to_end": _end_to_end(asked, subject, seconds, clock)}
    if asked.cold_start:
        clock.tell("Starting cold", 0, 0)
        found["cold_start"] = cold_start.cold_start(subject, provider)
    if asked.resources:
        clock.tell("Measuring memory and processor time", 0, 0)
        found["resources"] = resources.resources(subject, provider, min(seconds, _RESOURCES_S))
    return found


def _end_to_end(asked: Plan, subject: Subject, seconds: float, clock: Clock) -> tuple[Any, ...]:
    if asked.samples:
        clock.tell("Measuring end to end", 0, 0)
    return tuple(stages.end_to_end(subject, each, seconds / len(asked.samples)) for each in asked.samples)


def end(watch: conditions.Watch, measured: dict[str, Any]) -> Conditions:
    """Return the conditions since `watch` began; `measured` are the scenarios."""
    single = measured.get("single_stream")
    return conditions.end(watch, single if isinstance(single, SingleStream) else None)
