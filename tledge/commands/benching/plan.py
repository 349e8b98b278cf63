"""What a sweep is going to measure: every combination of the values of its axes."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import engine, installation, measurement, places
from tledge.commands.benching import axes, precisions
from tledge.commands.benching.precisions import ModelFile
from tledge.errors import TledgeError
from tledge.measurement import Setting
from tledge.report import sweeps

SECONDS_EACH, FEWEST_SECONDS, MOST_SECONDS = 2.0, 10.0, 120.0
_MOST_SETTINGS = 512
_PART_OF_A_SWEEP = {
    "model", "provider", "threads", "seconds", "input_file", "sweep", "plot", "save", "label", "force", "on_progress",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings to measure: every combination of the values of `axes`, of which the files are `files`."""

    axes: dict[str, tuple[str, ...]]
    files: dict[Path, ModelFile]
    settings: tuple[Setting, ...]
    notes: tuple[str, ...] = ()


def check(command: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the axes in `given["sweep"]` after looking whether all that is `given` to `command` goes together.

    Raises TledgeError, and OutputError when the file for the plot is taken; no work has been done then.
    """
    asked = axes.read(given["sweep"])
    defaults = {name: each.default for name, each in inspect.signature(command).parameters.items()}
    for name, value in given.items():
        if name not in _PART_OF_A_SWEEP and value != defaults[name]:
            option = "--" + name.replace("_", "-").replace("scenarios", "scenario")
            raise TledgeError(
                f"A sweep compares settings, and {option} is no part of it.", "Measure that in a bench of its own."
            )
        if name in asked and value != defaults[name]:
            raise TledgeError(f"'{name}' is swept and given by --{name} as well.", f"Leave --{name} out.")
    return asked


def check_plot(plot: Path, *, force: bool) -> None:
    """Raise TledgeError unless the SVG of a sweep can be drawn and written to `plot`."""
    if plot.suffix.lower() != ".svg":
        raise TledgeError(f"The plot of a sweep is an SVG file, got {plot}.", "Name it like --plot sweep.svg.")
    places.check_free_file(plot, force=force)
    sweeps.check_drawing()


def plan(
    asked: Mapping[str, Sequence[str]],
    subject: measurement.Subject,
    provider: str,
    open_model: Callable[..., measurement.Subject] = measurement.open_subject,
) -> Plan:
    """Return the settings for the axes `asked`, of which `subject`, opened on `provider`, is one.

    Raises TledgeError for a value that there is not, and for more combinations than anybody waits for.
    """
    model, notes = precisions.described(subject), []
    found = precisions.files(asked.get("precision", ()), model, open_model) if "precision" in asked else (model,)
    if asked.get("precision") == () and len(found) == 1:
        notes.append(
            f"No other precision of {model.path} lies beside it: it was swept with its own alone. "
            "Name files as in --sweep precision=fp32.onnx:fp16.onnx."
        )
    values: dict[str, tuple[Any, ...]] = {
        "precision": tuple(each.path for each in found),
        "provider": _providers(asked, subject, provider),
        "threads": axes.threads(asked["threads"]) if "threads" in asked else (subject.threads,),
        "preset": axes.presets(asked["preset"]) if "preset" in asked else ("busy",),
        "batch": _batches(asked, subject),
    }
    count = math.prod(map(len, values.values()))
    if count > _MOST_SETTINGS:
        raise TledgeError(
            f"A sweep has {_MOST_SETTINGS} combinations at most, these are {count}.",
            "Name the values to try, as in --sweep threads=1:4,batch=1:8.",
        )
    settings = tuple(Setting(*each) for each in itertools.product(*values.values()))
    named = {name: tuple(str(value) for value in values[name]) for name in asked}
    return Plan(named, {each.path: each for each in found}, settings, tuple(notes))


def default_seconds(settings: int) -> float:
    """Return how long to measure so many settings when nobody says."""
    return min(MOST_SECONDS, max(FEWEST_SECONDS, SECONDS_EACH * settings))


def _providers(asked: Mapping[str, Sequence[str]], subject: measurement.Subject, provider: str) -> tuple[str, ...]:
    if "provider" not in asked:
        return (engine.resolved(provider, subject.session),)
    here = installation.describe()["providers"]
    return axes.providers(asked["provider"], tuple(reversed(here)))


def _batches(asked: Mapping[str, Sequence[str]], subject: measurement.Subject) -> tuple[int, ...]:
    return axes.batches(asked["batch"], subject.batch_sizes) if "batch" in asked else subject.batch_sizes[:1]
