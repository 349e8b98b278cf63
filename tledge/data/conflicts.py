"""Find pictures whose contents say one thing and whose places say two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tledge.schema import Problem, Sample


def conflicting_digests(samples: Iterable[Sample]) -> set[str]:
    """Return the digests that stand under more than one label."""
    labels: dict[str, set[int]] = defaultdict(set)
    for sample in samples:
        labels[sample.digest].add(sample.label)
    return {digest for digest, found in labels.items() if len(found) > 1}


def find_conflicts(samples: Iterable[Sample], classes: tuple[str, ...]) -> list[Problem]:
    """Return one Problem per sample whose picture also stands under another label, naming that one's class and path."""
    samples = tuple(samples)
    conflicting = conflicting_digests(samples)
    first: dict[str, dict[int, Sample]] = defaultdict(dict)
    for sample in samples:
        if sample.digest in conflicting:
            first[sample.digest].setdefault(sample.label, sample)
    return [_conflict(sample, first[sample.digest], classes) for sample in samples if sample.digest in conflicting]


def _conflict(sample: Sample, first: dict[int, Sample], classes: tuple[str, ...]) -> Problem:
    other = next(found for label, found in first.items() if label != sample.label)
    own_name, other_name = classes[sample.label], classes[other.label]
    return Problem(
        sample.path, f"labelled {own_name!r}, but the same picture is labelled {other_name!r} at {other.path}"
    )


def find_leaks(train: Iterable[Sample], held_out: Iterable[Sample]) -> list[Problem]:
    """Return one Problem per held-out sample whose picture is also trained on, under the same label."""
    trained = {(sample.digest, sample.label): sample.path for sample in train}
    return [
        Problem(sample.path, f"held out, but the same picture is in the training data at {trained[key]}")
        for sample in held_out
        if (key := (sample.digest, sample.label)) in trained
    ]
