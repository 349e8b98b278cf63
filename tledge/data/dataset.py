"""Listings → Dataset: labels numbered, splits taken as found or drawn, problems listed, the whole fingerprinted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tledge.data import groups, sound_check
from tledge.data.conflicts import conflicting_digests, find_conflicts, find_leaks
from tledge.data.listing import Item, Listing
from tledge.data.numbering import choose_classes, number, require_same_columns, require_same_kind
from tledge.data.revise import require_none, stamp
from tledge.data.sources import read
from tledge.data.split import draw_test_digests
from tledge.errors import DataError
from tledge.schema import Dataset, Problem, Sample, Split


def load(
    data: str | Path,
    *,
    test_data: str | Path | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    strict: bool = False,
    group_by: str | None = None,
) -> Dataset:
    """Read labelled samples of any source into a Dataset; no picture is decoded, but every sound is listened to.

    What is tested on: all of `test_data` if given; else the split `test`; else the split `val`, which training never
    looks at either (and `Dataset.val` is then empty); else `test_fraction` of each class, drawn by content and `seed`.
    Samples in `conflicts` are kept, but one that stands under two labels is never drawn for testing.

    `group_by` is a column of the table, or a regular expression searched in each path below the folder of the data (its
    first parenthesis, or all of it, is the group); without it, a column `group` counts. A group is drawn as a whole.

    Raises DataError when there is nothing usable, fewer than two classes, a class in a held-out set that is not trained
    on, or a class too small to draw a test sample from; with `strict`, also when anything is skipped or in conflict.
    """
    listing = sound_check.listened(read(data))
    rule = groups.rule(group_by, listing)
    listing = groups.apply(rule, listing, data)
    other = None if test_data is None else groups.apply(rule, sound_check.listened(read(test_data)), test_data)
    train_items = _of_split(listing, None, "train")
    classes, skipped = choose_classes(train_items, listing, data)
    test_items, val_items, left_out = _held_out(listing, data, other, test_data)
    skipped += left_out
    require_same_columns(listing.columns, other, test_data)
    require_same_kind((*train_items, *val_items, *test_items))
    conflicts = [
        *find_conflicts((*train_items, *val_items, *test_items)),
        *find_leaks(train_items, (*val_items, *test_items)),
    ]
    if strict:
        require_none((*skipped, *conflicts))
    several = listing.multilabel
    train = number(train_items, classes, data, several)
    val = number(val_items, classes, data, several)
    test = number(test_items, classes, data if test_data is None else test_data, several)
    if not test:
        train, test = _draw(train, classes, test_fraction, seed)
    notes = (*listing.notes, *(other.notes if other else ()))
    remarks = (*listing.remarks, *(other.remarks if other else ()))
    found = (tuple(skipped), tuple(conflicts))
    return stamp(Dataset(classes, train, val, test, *found, "", several, notes, remarks, listing.columns))


def load_labelled(
    data: str | Path, classes: Sequence[str], multilabel: bool = False, columns: Sequence[str] = ()
) -> tuple[tuple[Sample, ...], tuple[Problem, ...]]:
    """Read samples to evaluate on, labelled by their place in `classes`; also returns what was left out.

    Of data with splits, `test` is taken, or else `val`. A class without samples is fine; one that is not among
    `classes` is a DataError, and so are several labels where the model is not `multilabel`, and
    numbers whose names are not `columns`, where both have names.
    """
    listing = read(data)
    require_same_columns(columns, listing, data)
    return number(_test_items(listing, data), tuple(classes), data, multilabel), listing.skipped


def _of_split(listing: Listing, *splits: Split | None) -> list[Item]:
    return [item for item in listing.items if item.split in splits]


def _held_out(
    listing: Listing, data: str | Path, other: Listing | None, test_data: str | Path | None
) -> tuple[list[Item], list[Item], list[Problem]]:
    """Return the items to test on (none when they must be drawn), those of the val split, and what was skipped."""
    skipped = list(listing.skipped)
    test, val = _of_split(listing, "test"), _of_split(listing, "val")
    if other is not None and test_data is not None:
        if test:
            skipped.append(Problem(str(data), f"its {len(test)} test samples are unused: other test data was given"))
        return _test_items(other, test_data), val, [*skipped, *other.skipped]
    return (test, val, skipped) if test else (val, [], skipped)


def _test_items(listing: Listing, data: str | Path) -> list[Item]:
    items = _of_split(listing, None) or _of_split(listing, "test") or _of_split(listing, "val")
    if not items:
        hint = "To test on that, name it: DIR/train." if Path(data).is_dir() else "Give samples of the split test."
        raise DataError(f"{data} holds nothing to test on but {_training(data)}.", hint)
    return items


def _training(data: str | Path) -> str:
    return "a folder train/" if Path(data).is_dir() else "training samples"


def _draw(
    samples: tuple[Sample, ...], classes: tuple[str, ...], fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    drawn = draw_test_digests(samples, classes, fraction, seed, conflicting_digests(samples))
    train = tuple(sample for sample in samples if sample.digest not in drawn)
    return train, tuple(sample for sample in samples if sample.digest in drawn)
