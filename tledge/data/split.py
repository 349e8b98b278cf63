"""Draw a test set by content and seed: not by path, order, number of threads or time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Set

from tledge.errors import DataError
from tledge.schema import Sample


def draw_test_digests(
    samples: Iterable[Sample], classes: tuple[str, ...], fraction: float, seed: int, kept_out: Set[str] = frozenset()
) -> set[str]:
    """Return the digests to test on: of each class the `fraction` that ranks lowest by SHA-256 of seed and digest.

    Of n distinct pictures of a class, round(fraction · n) are drawn, but at least 1, and at least 1 is left to train
    on. Files of the same content stay together. Adding a picture to a class moves at most one other across. Digests in
    `kept_out` are neither drawn nor counted. Raises DataError when `fraction` is not between 0 and 1, or when a class
    has fewer than two pictures to draw from.
    """
    if not 0 < fraction < 1:
        raise DataError(f"The test fraction must lie between 0 and 1; found {fraction}.", "Use 0.2, for instance.")
    digests: dict[int, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.digest not in kept_out:
            digests[sample.label].add(sample.digest)
    drawn: set[str] = set()
    for label, name in enumerate(classes):
        drawn.update(_lowest(digests[label], name, fraction, seed))
    return drawn


def _lowest(digests: set[str], name: str, fraction: float, seed: int) -> list[str]:
    count = len(digests)
    if count < 2:
        raise DataError(
            f"Class {name!r} has {count} image{'s' * (count != 1)}; at least 2 are needed: one to train on and one to "
            "test (equal files count once, pictures that stand in two classes not at all).",
            "Add images, or give a test set with --test-data.",
        )
    size = min(max(1, round(fraction * count)), count - 1)
    return sorted(digests, key=lambda digest: _rank(digest, seed))[:size]


def _rank(digest: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{digest}".encode()).digest()
