"""Draw a test set by content and seed: not by path, order, number of threads or time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from tledge.data.blocks import NO_LABEL, Block, find_blocks
from tledge.errors import DataError
from tledge.schema import Sample

_MOST_ROUNDS = 20  # of improvement; sets seen in practice need two or three


def draw_test_digests(
    samples: Sequence[Sample], classes: tuple[str, ...], fraction: float, seed: int, kept_out: Set[str] = frozenset()
) -> set[str]:
    """Return the digests to test on: of each class the `fraction` that ranks lowest by SHA-256 of seed and digest.

    Wanted of a class with n distinct contents are round(fraction · n), but at least 1, and at least 1 is left to train
    on. Where samples have one label and no groups, exactly these are drawn, and adding a sample to a class moves at
    most one other across. Else blocks (see `blocks`) are drawn whole: a block changes sides, lowest rank first, where
    that lowers Σ (drawn − wanted)² / wanted over the classes, until none does; then the least harmful block is moved
    for each class that is missing on a side.

    Blocks with digests in `kept_out` are neither drawn nor counted. Raises DataError when `fraction` is not between 0
    and 1, or when a class would be missing on one side.
    """
    if not 0 < fraction < 1:
        raise DataError(f"The test fraction must lie between 0 and 1; found {fraction}.", "Use 0.2, for instance.")
    grouped = any(sample.group is not None for sample in samples)
    blocks = [block for block in find_blocks(samples, f"{seed}:") if kept_out.isdisjoint(block.digests)]
    _require_two_of_each(blocks, classes, grouped)
    draw = _Draw(blocks, fraction)
    draw.improve()
    draw.complete(classes)
    return {digest for block, drawn in zip(blocks, draw.drawn, strict=True) if drawn for digest in block.digests}


def _require_two_of_each(blocks: list[Block], classes: tuple[str, ...], grouped: bool) -> None:
    counts = Counter(label for block in blocks for label in block.counts)
    for label, name in enumerate(classes):
        if counts[label] < 2:
            thing = "group" if grouped else "sample"
            raise DataError(
                f"Class {name!r} has {counts[label]} {thing}{'s' * (counts[label] != 1)}; at least 2 are needed: one "
                "to train on and one to test (equal ones count once, those that stand in two classes not at all).",
                f"Add {thing}s, or give a test set with --test-data.",
            )


class _Draw:
    """Which blocks are drawn, and how many contents of each label that makes."""

    def __init__(self, blocks: list[Block], fraction: float) -> None:
        self.blocks = blocks
        self.drawn = [False] * len(blocks)
        self.total: Counter[int] = Counter()
        for block in blocks:
            self.total.update(block.counts)
        self.wanted = {label: min(max(1, round(fraction * n)), max(1, n - 1)) for label, n in self.total.items()}
        self.found = dict.fromkeys(self.total, 0)

    def improve(self) -> None:
        """Move blocks as long as that brings the counts nearer to what is wanted."""
        for _ in range(_MOST_ROUNDS):
            # Not just below zero, so that rounding never moves a block to and fro.
            moves = [self._move(i) for i in range(len(self.blocks)) if self._cost(i) < -1e-9]
            if not moves:
                return

    def complete(self, classes: tuple[str, ...]) -> None:
        """See to it that every class is on both sides, or raise DataError naming one that cannot be."""
        for label, name in enumerate(classes):
            for drawn in (True, False):
                if self._lacks(label, drawn):
                    self._bring(label, drawn, name)

    def _lacks(self, label: int, drawn: bool) -> bool:
        return self.found[label] == (0 if drawn else self.total[label])

    def _bring(self, label: int, drawn: bool, name: str) -> None:
        able = [
            i
            for i, block in enumerate(self.blocks)
            if label in block.counts and self.drawn[i] != drawn and self._can_spare(i)
        ]
        if not able:
            side = "test on" if drawn else "train on"
            raise DataError(
                f"Found no way to have each class on both sides with whole groups: none of {name!r} is left to {side}.",
                "Use another --seed, add groups, or give a test set with --test-data.",
            )
        self._move(min(able, key=self._cost))

    def _can_spare(self, i: int) -> bool:
        """Tell whether every label of the block stays on the side that the block leaves."""
        counts = self.blocks[i].counts
        left = self.found if self.drawn[i] else {label: self.total[label] - self.found[label] for label in counts}
        return all(left[label] > count for label, count in counts.items() if label != NO_LABEL)

    def _cost(self, i: int) -> float:
        sign = -1 if self.drawn[i] else 1
        return sum(
            (2 * sign * count * (self.found[label] - self.wanted[label]) + count * count) / self.wanted[label]
            for label, count in self.blocks[i].counts.items()
        )

    def _move(self, i: int) -> None:
        sign = -1 if self.drawn[i] else 1
        for label, count in self.blocks[i].counts.items():
            self.found[label] += sign * count
        self.drawn[i] = not self.drawn[i]
