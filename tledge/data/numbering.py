"""Items → Samples: which classes there are, and each class name's number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tledge.data.listing import Item, Listing
from tledge.errors import DataError
from tledge.modalities import READERS
from tledge.schema import Problem, Sample

_HINT = "Give samples of each class to train on."


def choose_classes(
    trained: Sequence[Item], listing: Listing, data: str | Path
) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the classes that are trained on, in the source's own order or by name, and those that are left out.

    Raises DataError when nothing is trained on, or fewer than two classes.
    """
    if not trained:
        hint = "Add a folder train/ with one folder of samples per class." if Path(data).is_dir() else _HINT
        raise DataError(f"{data} holds nothing to train on.", hint)
    found = {name for item in trained for name in item.class_names}
    names = tuple(name for name in dict.fromkeys(listing.classes or sorted(found)) if name in found)
    if len(names) < 2:
        known = f": {names[0]!r}" if names else ""
        hint = "Add a folder for each class." if Path(data).is_dir() else _HINT
        raise DataError(f"At least 2 classes are needed; {data} holds {len(names)}{known}.", hint)
    bare = [name for name in listing.classes if name not in found]
    return names, [Problem(str(data), f"class {name!r} has no sample to train on") for name in bare]


def number(items: Sequence[Item], classes: tuple[str, ...], data: str | Path, multilabel: bool) -> tuple[Sample, ...]:
    """Return the items as samples, labelled by the places of their classes in `classes`.

    Raises DataError for a class that is not among them, and for several labels or none where the set takes one.
    """
    numbers = {name: place for place, name in enumerate(classes)}
    odd = sorted({name for item in items for name in item.class_names} - numbers.keys())
    if odd:
        raise DataError(
            f"{data} holds unknown classes: {_some(odd)}. Known are {_some(classes)}.",
            "Rename or remove their folders." if Path(data).is_dir() else "Correct the labels, or leave them out.",
        )
    if multilabel:
        return tuple(_with_labels(item, numbers) for item in items)
    return tuple(_with_label(item, numbers) for item in items)


def _with_label(item: Item, numbers: dict[str, int]) -> Sample:
    if len(item.class_names) != 1:
        raise DataError(
            f"{item.place or item.path} must have one label; found {len(item.class_names)}.",
            "Train on several labels, or give one to each sample.",
        )
    return _sample(item, numbers[item.class_names[0]], ())


def _with_labels(item: Item, numbers: dict[str, int]) -> Sample:
    labels = tuple(sorted(numbers[name] for name in item.class_names))
    return _sample(item, labels[0] if labels else -1, labels)


def _sample(item: Item, label: int, labels: tuple[int, ...]) -> Sample:
    return Sample(item.path, label, item.digest, labels, item.group, item.value, kind=item.kind, part=item.part)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def require_same_kind(items: Sequence[Item]) -> None:
    """Raise DataError when samples of two kinds, or vectors of different lengths, stand side by side."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(_kind(item), item)
    if len(first) > 1:
        found = " and ".join(f"{kind} ({item.path})" for kind, item in list(first.items())[:2])
        raise DataError(f"Samples must be of one kind; found {found}.", "Train and test on data of the same kind.")


def require_same_columns(trained: Sequence[str], listing: Listing | None, data: str | Path | None) -> None:
    """Raise DataError when the numbers of `listing`, read from `data`, are named otherwise than those trained on."""
    if listing and listing.columns and trained and listing.columns != tuple(trained):
        raise DataError(
            f"{data} must have the columns of numbers that are trained on, in their order; found "
            f"{_some(listing.columns)}.",
            f"They are: {','.join(trained)}.",
        )


def _kind(item: Item) -> str:
    if isinstance(item.value, np.ndarray) and item.value.ndim == 1:
        return f"vectors of length {len(item.value)}"
    return f"{READERS[item.kind].noun}s"
