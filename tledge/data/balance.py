"""How many samples each class has, and how uneven that is: what to say before anything is computed."""

from __future__ import annotations

from collections import Counter

from tledge.data.blocks import labels_of
from tledge.schema import Dataset, SampleCounts

_UNEVEN = 3.0  # times as many in the largest class as in the smallest
_MOST_LINES = 20


def class_counts(dataset: Dataset) -> dict[str, SampleCounts]:
    """Return how many samples of each split have each class; in a multi-label set a sample counts for each of its."""
    splits = (dataset.train, dataset.val, dataset.test)
    train, val, test = (Counter(label for sample in split for label in labels_of(sample)) for split in splits)
    return {name: SampleCounts(train[i], val[i], test[i]) for i, name in enumerate(dataset.classes)}


def imbalance(dataset: Dataset) -> float:
    """Return how many times as many training samples the largest class has as the smallest; 1.0 is even."""
    trained = [counts.train for counts in class_counts(dataset).values()]
    return max(trained) / max(1, min(trained))


def describe(dataset: Dataset) -> list[str]:
    """Return lines that say what the set holds: its splits, its classes, and a word when they are uneven."""
    counts = class_counts(dataset)
    kind = "multi-label, " if dataset.multilabel else ""
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    sizes = ", ".join(f"{len(samples)} {split}" for split, samples in splits.items() if samples)
    lines = [f"{len(counts)} classes ({kind}{sizes})"]
    shown = list(counts.items())[:_MOST_LINES]
    lines += [f"{name}: {each.train} train, {each.val + each.test} held out" for name, each in shown]
    if len(counts) > _MOST_LINES:
        lines.append(f"and {len(counts) - _MOST_LINES} more classes")
    return [*lines, *_uneven(dataset, counts), *_groups(dataset)]


def _uneven(dataset: Dataset, counts: dict[str, SampleCounts]) -> list[str]:
    ratio = imbalance(dataset)
    if ratio <= _UNEVEN:
        return []
    largest, smallest = (pick(counts, key=lambda name: counts[name].train) for pick in (max, min))
    return [f"uneven: {ratio:.1f} times as many samples of {largest!r} as of {smallest!r} to train on"]


def _groups(dataset: Dataset) -> list[str]:
    trained, held_out = (
        {sample.group for sample in samples} - {None} for samples in (dataset.train, (*dataset.val, *dataset.test))
    )
    return [f"groups: {len(trained)} train, {len(held_out)} held out"] if trained or held_out else []
