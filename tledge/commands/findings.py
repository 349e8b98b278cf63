"""What there is to say of a run beside its figures: class counts, warnings, the worst mistakes, the machine."""

from __future__ import annotations

import numpy as np

from tledge import data, decisions, installation, machine
from tledge.commands import pipeline
from tledge.schema import Dataset, Features, Mistake

_MOST_MISTAKES = 24
_IMBALANCE = 3


def class_counts(dataset: Dataset) -> dict[str, int]:
    """Return the number of samples of each class in all splits, by name."""
    return {name: each.train + each.val + each.test for name, each in data.class_counts(dataset).items()}


def warnings(dataset: Dataset, assumed: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a person should know before trusting the run; `assumed` is what the backbone took for granted."""
    found = [f"Assumed of the backbone: {each}." for each in assumed]
    counts = class_counts(dataset)
    most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] > _IMBALANCE * counts[fewest]:
        sizes = f"'{most}' has {counts[most]} samples, '{fewest}' has {counts[fewest]}"
        found.append(f"Classes are unbalanced: {sizes}; --class-weight balanced weighs them alike.")
    if dataset.skipped:
        found.append(f"Files that were left out: {len(dataset.skipped)}.")
    if dataset.conflicts:
        found.append(f"Samples under two labels, or both trained and tested on: {len(dataset.conflicts)}.")
    if dataset.remarks:
        found.append(f"Sounds that are silent or clipped: {len(dataset.remarks)}.")
    return tuple(found)


def mistakes(
    tested: Features, rows: np.ndarray, dataset: Dataset, thresholds: tuple[float, ...]
) -> tuple[Mistake, ...]:
    """Return the test samples that were decided wrongly, the most confident first; none of a multi-label set.

    Windows of one whole are decided together, so that a mistake is one of the whole.
    """
    if dataset.multilabel:
        return ()
    rows, samples = pipeline.wholes(rows, tested.samples)
    predicted = decisions.predicted(rows, thresholds, False).argmax(axis=1)
    truth = np.array([sample.label for sample in samples])
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-rows[wrong, predicted[wrong]], kind="stable")][:_MOST_MISTAKES]
    names = dataset.classes
    return tuple(
        Mistake(
            path=sample.path,
            label=names[sample.label],
            predicted=names[predicted[i]],
            probability=float(rows[i, predicted[i]]),
            value=sample.value,
            kind=sample.kind,
            part=sample.part,
        )
        for i, sample in ((i, samples[i]) for i in worst)
    )


def environment() -> dict[str, str]:
    """Return what the run was made with, for the report."""
    facts = machine.describe()
    return {
        "CPU": str(facts["cpu"]),
        "Cores": str(facts["cores"]),
        "Memory": f"{int(facts['memory_bytes']) / 2**30:.1f} GiB",
        "System": str(facts["system"]),
        "Python": str(facts["python"]),
        "onnxruntime": str(installation.describe()["version"]),
        "numpy": np.__version__,
    }
