"""Find samples whose contents say one thing and whose places say two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tledge.data.listing import Item
from tledge.modalities import READERS
from tledge.schema import Problem, Sample

_Content = tuple[str, tuple[float, float] | None]  # two parts of one file are two contents


def conflicting_digests(samples: Iterable[Sample]) -> set[str]:
    """Return the digests that stand under more than one label, or in a multi-label set under different labels."""
    labels: dict[_Content, tuple[int, ...]] = {}
    return {
        sample.digest
        for sample in samples
        if labels.setdefault(_content(sample), (sample.label, *sample.labels)) != (sample.label, *sample.labels)
    }


def find_conflicts(items: Iterable[Item]) -> list[Problem]:
    """Return one Problem per item whose contents also stand under another label, naming that one's class and place."""
    first: dict[_Content, dict[tuple[str, ...], Item]] = defaultdict(dict)
    items = tuple(items)
    for item in items:
        first[_content(item)].setdefault(item.class_names, item)
    return [_conflict(item, first[_content(item)]) for item in items if len(first[_content(item)]) > 1]


def _content(sample: Sample | Item) -> _Content:
    return sample.digest, sample.part


def _conflict(item: Item, first: dict[tuple[str, ...], Item]) -> Problem:
    other = next(found for names, found in first.items() if names != item.class_names)
    return _problem(
        item,
        f"labelled {_named(item)}, but the same {_kind(item)} is labelled {_named(other)} at {_place(other)}",
    )


def find_leaks(train: Iterable[Item], held_out: Iterable[Item]) -> list[Problem]:
    """Return one Problem per held-out item that is also trained on under the same label, and one per group that is."""
    train, held_out = tuple(train), tuple(held_out)
    trained = {(_content(item), item.class_names): item for item in train}
    leaks = [
        _problem(item, f"held out, but the same {_kind(item)} is in the training data at {_place(trained[key])}")
        for item in held_out
        if (key := (_content(item), item.class_names)) in trained
    ]
    return leaks + _find_group_leaks(train, held_out)


def _find_group_leaks(train: Iterable[Item], held_out: Iterable[Item]) -> list[Problem]:
    trained, tested = _by_group(train), _by_group(held_out)
    return [
        _problem(item, f"held out, but its group {group!r} is also in the training data at {_place(trained[group])}")
        for group, item in tested.items()
        if group in trained
    ]


def _by_group(items: Iterable[Item]) -> dict[str, Item]:
    """Return the first item of each group."""
    found: dict[str, Item] = {}
    for item in items:
        if item.group is not None:
            found.setdefault(item.group, item)
    return found


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _problem(item: Item, reason: str) -> Problem:
    return Problem(_place(item), f"{item.path}: {reason}" if item.place else reason)


def _place(item: Item) -> str:
    return item.place or item.path


def _named(item: Item) -> str:
    return " and ".join(map(repr, item.class_names)) or "as nothing"


def _kind(item: Item) -> str:
    return READERS[item.kind].noun
