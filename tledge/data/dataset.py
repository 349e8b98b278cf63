"""Files → Dataset: labels numbered, splits taken as found or drawn, problems listed, the whole fingerprinted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tledge.data.conflicts import conflicting_digests, find_conflicts, find_leaks
from tledge.data.listing import Listing, Picture
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
) -> Dataset:
    """Read labelled pictures into a Dataset; nothing is decoded.

    What is tested on: all of `test_data` if given; else the split `test`; else the split `val`, which training never
    looks at either (and `Dataset.val` is then empty); else `test_fraction` of each class, drawn by content and `seed`.
    Pictures in `conflicts` are kept, but one that stands under two labels is never drawn for testing.

    Raises DataError when there is nothing usable, fewer than two classes, a class in a held-out set that is not trained
    on, or a class too small to draw a test picture from; with `strict`, also when anything is skipped or in conflict.
    """
    listing = read(data)
    train_pictures = _of_split(listing, None, "train")
    classes = _classes(train_pictures, data)
    test_pictures, val_pictures, skipped = _held_out(listing, data, test_data)
    train = _label(train_pictures, classes, data)
    val = _label(val_pictures, classes, data)
    test = _label(test_pictures, classes, data if test_data is None else test_data)
    conflicts = [*find_conflicts((*train, *val, *test), classes), *find_leaks(train, (*val, *test))]
    if strict:
        _require_none((*skipped, *conflicts))
    if not test:
        train, test = _draw(train, classes, test_fraction, seed)
    return stamp(Dataset(classes, train, val, test, tuple(skipped), tuple(conflicts)))


def load_labelled(data: str | Path, classes: Sequence[str]) -> tuple[tuple[Sample, ...], tuple[Problem, ...]]:
    """Read pictures to evaluate on, labelled by their place in `classes`; also returns the files that were left out.

    Of a folder with splits, `test` is taken, or else `val`. A class without pictures is fine; one that is not among
    `classes` is a DataError.
    """
    listing = read(data)
    return _label(_test_pictures(listing, data), tuple(classes), data), listing.skipped


def drop(dataset: Dataset, problems: Sequence[Problem], *, strict: bool = False) -> Dataset:
    """Return `dataset` without the samples at the paths of `problems`, which join `skipped`.

    For files that turn out to be damaged once they are decoded. Raises DataError when a class has no sample left to
    train on, or when no test sample is left; with `strict`, when there is any problem at all.
    """
    if strict:
        _require_none(problems)
    gone = {problem.path for problem in problems}
    train, val, test = (
        tuple(sample for sample in split if sample.path not in gone)
        for split in (dataset.train, dataset.val, dataset.test)
    )
    trained = {sample.label for sample in train}
    bare = [repr(name) for label, name in enumerate(dataset.classes) if label not in trained]
    if bare or not test:
        lost = f"no image of {', '.join(bare)} is left to train on" if bare else "no test image is left"
        raise DataError(
            f"After unreadable images were left out, {lost}.{_first_of(problems)}", "Replace them, or add images."
        )
    skipped = (*dataset.skipped, *problems)
    return stamp(replace(dataset, train=train, val=val, test=test, skipped=skipped))


def stamp(dataset: Dataset) -> Dataset:
    """Return `dataset` with its fingerprint: equal for equal class names, contents, labels and splits, in any place."""
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    rows = sorted((sample.digest, sample.label, split) for split, samples in splits.items() for sample in samples)
    document = json.dumps([dataset.classes, rows])
    return replace(dataset, fingerprint=hashlib.sha256(document.encode()).hexdigest())


# ── Steps of load ────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_split(listing: Listing, *splits: Split | None) -> list[Picture]:
    return [picture for picture in listing.pictures if picture.split in splits]


def _classes(pictures: list[Picture], data: str | Path) -> tuple[str, ...]:
    if not pictures:
        raise DataError(
            f"{data} holds nothing to train on.", "Add a folder train/ with one folder of pictures per class."
        )
    names = tuple(sorted({picture.class_name for picture in pictures}))
    if len(names) < 2:
        raise DataError(f"At least 2 classes are needed; {data} holds 1: {names[0]!r}.", "Add a folder for each class.")
    return names


def _held_out(
    listing: Listing, data: str | Path, test_data: str | Path | None
) -> tuple[list[Picture], list[Picture], list[Problem]]:
    """Return the pictures to test on (none when they must be drawn), those of the val split, and what was skipped."""
    skipped = list(listing.skipped)
    test, val = _of_split(listing, "test"), _of_split(listing, "val")
    if test_data is not None:
        if test:
            skipped.append(Problem(str(data), f"its {len(test)} test pictures are unused: other test data was given"))
        other = read(test_data)
        return _test_pictures(other, test_data), val, [*skipped, *other.skipped]
    return (test, val, skipped) if test else (val, [], skipped)


def _test_pictures(listing: Listing, data: str | Path) -> list[Picture]:
    pictures = _of_split(listing, None) or _of_split(listing, "test") or _of_split(listing, "val")
    if not pictures:
        raise DataError(f"{data} holds nothing to test on but a folder train/.", "To test on that, name it: DIR/train.")
    return pictures


def _label(pictures: Iterable[Picture], classes: tuple[str, ...], data: str | Path) -> tuple[Sample, ...]:
    numbers = {name: number for number, name in enumerate(classes)}
    odd = sorted({picture.class_name for picture in pictures} - numbers.keys())
    if odd:
        raise DataError(
            f"{data} holds unknown classes: {_some(odd)}. Known are {_some(classes)}.",
            "Rename or remove their folders.",
        )
    return tuple(Sample(picture.path, numbers[picture.class_name], picture.digest) for picture in pictures)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _draw(
    samples: tuple[Sample, ...], classes: tuple[str, ...], fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    drawn = draw_test_digests(samples, classes, fraction, seed, conflicting_digests(samples))
    train = tuple(sample for sample in samples if sample.digest not in drawn)
    return train, tuple(sample for sample in samples if sample.digest in drawn)


def _require_none(problems: Sequence[Problem]) -> None:
    if problems:
        raise DataError(
            f"Strict: every file must be usable, and of one label and split.{_first_of(problems)}",
            "Mend them, or do not ask for strict.",
        )


def _first_of(problems: Sequence[Problem]) -> str:
    if not problems:
        return ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f" {problems[0].path}: {problems[0].reason}{more}."
