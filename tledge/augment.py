"""Augmented views of a training sample: which ones there are, what they are called, and one of them made.

A view is a word, `policy/seed/index`, that stands in `Sample.view` and in the key of what is cached for it; what it
does to a sample follows from that word and the sample's digest alone. Views are numbered from 1: index 0 is the sample
itself, which is always trained on beside its views and has no word ("").
"""

from __future__ import annotations

import hashlib
import random

import numpy as np

from tledge.errors import DataError, TledgeError, did_you_mean
from tledge.views import pictures, sounds

# Part of the key under which features of views are kept: raise it when a view would show something else.
REVISION = 1
_KINDS = {"image": "pictures", "audio": "sounds"}


def names(kind: str | None = None) -> tuple[str, ...]:
    """Return the names that `views` knows for samples of `kind`, or for all."""
    known = {"image": tuple(pictures.POLICIES), "audio": sounds.NAMES}
    return known.get(kind, ()) if kind else tuple(name for each in known.values() for name in each)


def check_name(name: str, count: int | None = None) -> None:
    """Raise TledgeError unless there is a policy called `name`, of which `count` views can differ."""
    if name not in pictures.POLICIES and not sounds.knows(name):
        raise TledgeError(f"There is no augmentation called {name!r}.", did_you_mean(name, names()))
    if count is not None and count < 1:
        raise TledgeError(f"The number of views must be 1 or more, but is {count}.", "Leave the augmentation out.")
    most = _distinct(name)
    if count is not None and most is not None and count > most:
        raise TledgeError(
            f"'{name}' has {most} view{'s' * (most > 1)} beside the picture itself, but {count} are wanted.",
            f"Ask for {most} at most, or for light or rand views.",
        )


def _distinct(name: str) -> int | None:
    return pictures.POLICIES[name].distinct if name in pictures.POLICIES else None


def check_kind(name: str, kind: str) -> None:
    """Raise DataError unless the policy called `name` is for samples of `kind`."""
    meant = "image" if name in pictures.POLICIES else "audio"
    if kind != meant:
        known = names(kind)
        hint = f"For {_KINDS[kind]} there are: {', '.join(known)}." if known else "Leave it away."
        raise DataError(f"Augmentation {name!r} is for {_KINDS[meant]}; the model takes another kind.", hint)


def views(name: str, count: int, seed: int) -> tuple[str, ...]:
    """Return the words of `count` views beside the sample itself, in the order of their index from 1.

    Where chance plays no part, the seed in the word is 0, so that all seeds share what is cached. The word of a policy
    that mixes in noise also holds the digest of the noise. Raises TledgeError, also when there is no usable noise.
    """
    check_name(name, count)
    seed = 0 if _distinct(name) else seed
    policy = name if name in pictures.POLICIES else sounds.settled(name)
    return tuple(f"{policy}/{seed}/{index}" for index in range(1, count + 1))


def apply(view: str, digest: str, row: np.ndarray, rate: int = 0) -> np.ndarray:
    """Return the `view` of `row`, whose content has `digest`, as an array like it; may share memory.

    `row` is a picture, uint8 [h, w, 3], or a sound, float32 [n] in -1..1, `rate` samples a second. Equal arguments give
    equal arrays. Any number of threads may call this. Raises TypeError for other arrays, and TledgeError for a word
    that `views` does not give, or noise that is not what it was.
    """
    name, index = _parsed(view)
    chance = random.Random(int.from_bytes(hashlib.sha256(f"{view} {digest}".encode()).digest()))
    if name in pictures.POLICIES:
        return pictures.apply(name, index, chance, row)
    return sounds.apply(name, index, chance, row, rate)


def _parsed(view: str) -> tuple[str, int]:
    name, *rest = view.rsplit("/", 2)  # the folder of a noise has slashes too
    check_name(name)
    if len(rest) != 2 or not rest[1].isdecimal():
        raise TledgeError(f"A view is called policy/seed/index, found {view!r}.", "Use the words that views() gives.")
    return name, int(rest[1])
