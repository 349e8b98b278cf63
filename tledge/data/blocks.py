"""What must not be torn apart by a split: equal contents, and the samples of one group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tledge.schema import Sample

NO_LABEL = -1  # stands for a label of its own: samples of a multi-label set that have none


@dataclass(frozen=True, slots=True)
class Block:
    """Samples that stay together: `rows` are their places among the samples, `digests` their contents, sorted.

    `counts` says how many different contents each label has, `rank` orders blocks by content and seed.
    """

    rows: tuple[int, ...]
    digests: tuple[str, ...]
    counts: dict[int, int]
    rank: bytes


def labels_of(sample: Sample) -> tuple[int, ...]:
    """Return the labels of a sample of any set; (NO_LABEL,) when it has none."""
    return sample.labels or (sample.label,)


def find_blocks(samples: Sequence[Sample], salt: str) -> list[Block]:
    """Return the blocks of `samples`, lowest rank first: those by which equal contents and groups are connected.

    A content ranks by the SHA-256 of `salt` and its digest; a block as the lowest of its contents. The order depends on
    nothing else, neither on that of the samples nor on their paths.
    """
    roots = _roots(samples)
    members: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        members.setdefault(roots[sample.digest], []).append(row)
    return sorted((_block(rows, samples, salt) for rows in members.values()), key=lambda block: block.rank)


def _roots(samples: Iterable[Sample]) -> dict[str, str]:
    """Return for each digest one that stands for all that it is connected with."""
    parent: dict[str, str] = {}

    def root(digest: str) -> str:
        while (above := parent[digest]) != digest:
            parent[digest] = digest = parent[above]
        return digest

    first_of: dict[str, str] = {}
    for sample in samples:
        parent.setdefault(sample.digest, sample.digest)
        if sample.group is not None:
            parent[root(sample.digest)] = root(first_of.setdefault(sample.group, sample.digest))
    return {digest: root(digest) for digest in parent}


def _block(rows: list[int], samples: Sequence[Sample], salt: str) -> Block:
    pairs = {(samples[row].digest, label) for row in rows for label in labels_of(samples[row])}
    digests = tuple(sorted({digest for digest, _ in pairs}))
    rank = min(hashlib.sha256(f"{salt}{digest}".encode()).digest() for digest in digests)
    return Block(tuple(rows), digests, dict(sorted(Counter(label for _, label in pairs).items())), rank)
