"""Which rows are held out together when a head is cross-validated."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tledge.errors import DataError
from tledge.schema import Sample

_FOLDS = 5
_MUCH = 2_000_000  # rows × classes from which one held-out fifth says enough, and five would cost minutes


@dataclass(slots=True)
class _Unit:
    """Pictures that stay together: their digests, and how many of them there are of each label."""

    digests: set[str] = field(default_factory=set)
    labels: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def label(self) -> int:
        """Return the most frequent label, of equally frequent ones the lowest."""
        return min(self.labels, key=lambda label: (-self.labels[label], label))


def assign(samples: Sequence[Sample], seed: int, count: int = _FOLDS) -> np.ndarray:
    """Return the fold int [n] of each sample, -1 for never held out: stratified, by content and `seed`.

    The same picture twice is in one fold, be it under two labels or in other views, and so is a group, so that no fold
    is tested on what it was fitted to. Every fold holds a picture, and leaves one. Where all samples are one group, it
    is taken apart. Raises DataError when there are no two different pictures.
    """
    units = _units(samples, grouped=True)
    if len(units) < 2:
        units = _units(samples, grouped=False)
    if len(units) < 2:
        raise DataError(f"A head is fitted to two different pictures at least, found {len(units)}.", "Add images.")
    fold_of = _deal(units, min(count, len(units)), seed)
    folds = np.array([fold_of[sample.digest] for sample in samples], np.int64)
    classes = len({sample.label for sample in samples})
    return np.where(folds == 0, 0, -1) if len(samples) * classes > _MUCH else folds


def _units(samples: Sequence[Sample], *, grouped: bool) -> list[_Unit]:
    """Return the sets of pictures that a digest or a group, or a chain of them, holds together."""
    home: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while home.setdefault(key, key) != key:
            home[key] = key = home[home[key]]
        return key

    label_of: dict[str, int] = {}
    for sample in samples:
        label_of[sample.digest] = min(sample.label, label_of.get(sample.digest, sample.label))
        if grouped and sample.group is not None:
            home[root(("digest", sample.digest))] = root(("group", sample.group))
    units: dict[tuple[str, str], _Unit] = defaultdict(_Unit)
    for digest, label in label_of.items():
        unit = units[root(("digest", digest))]
        unit.digests.add(digest)
        unit.labels[label] += 1
    return list(units.values())


def _deal(units: Sequence[_Unit], count: int, seed: int) -> dict[str, int]:
    """Give each unit, the largest first, to the fold that lacks its label most; return the fold of each digest.

    Of equal folds it is the smallest, so that single pictures of many classes do not all meet in the first one.
    """
    order = sorted(units, key=lambda unit: (-len(unit.digests), unit.label(), _rank(min(unit.digests), seed)))
    of_label: list[dict[int, int]] = [defaultdict(int) for _ in range(count)]
    sizes = [0] * count
    fold_of: dict[str, int] = {}
    for unit in order:
        label = unit.label()
        best = min(range(count), key=lambda fold: (of_label[fold][label], sizes[fold], fold))
        for each, pictures in unit.labels.items():
            of_label[best][each] += pictures
        sizes[best] += len(unit.digests)
        fold_of |= dict.fromkeys(unit.digests, best)
    return fold_of


def _rank(digest: str, seed: int) -> bytes:
    return hashlib.sha256(f"folds {seed} {digest}".encode()).digest()
