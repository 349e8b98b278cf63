"""Which samples are held out together when a head is cross-validated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tledge.data.blocks import find_blocks
from tledge.errors import DataError
from tledge.schema import Sample


def most(samples: Sequence[Sample]) -> int:
    """Return into how many folds `samples` can be parted at most: the number of different contents, or groups."""
    return len(find_blocks(samples, ""))


def assign(samples: Sequence[Sample], count: int, seed: int) -> np.ndarray:
    """Return the fold int64 [n], 0 to `count` - 1, of each sample: stratified, by content and `seed`.

    Equal contents and the samples of one group are in one fold. Largest groups first, each goes where there is least of
    its labels, Σ held · added / total, and then where there is least of all; with one label and no groups that deals
    the contents of a label round the folds. No fold is empty. Raises DataError when `count` is below 2 or more than
    there are different contents or groups.
    """
    blocks = find_blocks(samples, f"folds {seed} ")
    if not 2 <= count <= len(blocks):
        what = "groups" if any(sample.group is not None for sample in samples) else "samples"
        raise DataError(
            f"The number of folds must lie between 2 and the {len(blocks)} different {what}; found {count}.",
            "Use 5, for instance." if len(blocks) >= 5 else f"Add {what}.",
        )
    totals = Counter[int]()
    for block in blocks:
        totals.update(block.counts)
    held: list[Counter[int]] = [Counter() for _ in range(count)]
    sizes = [0] * count
    folds = np.empty(len(samples), np.int64)
    for block in sorted(blocks, key=lambda block: (-len(block.digests), tuple(block.counts), block.rank)):
        shares = {label: added / totals[label] for label, added in block.counts.items()}
        load = [sum(fold[label] * share for label, share in shares.items()) for fold in held]
        fold = min(range(count), key=lambda k: (load[k], sizes[k], k))
        held[fold].update(block.counts)
        sizes[fold] += len(block.digests)
        folds[list(block.rows)] = fold
    return folds
