"""Dataset → Dataset: leave out what turned out to be unusable, and fingerprint what is left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from tledge.data.blocks import labels_of
from tledge.errors import DataError
from tledge.schema import Dataset, Problem, Sample


def drop(dataset: Dataset, problems: Sequence[Problem], *, strict: bool = False) -> Dataset:
    """Return `dataset` without the samples at the paths of `problems`, which join `skipped`.

    For files that turn out to be damaged once they are decoded. Raises DataError when a class has no sample left to
    train on, or when no test sample is left; with `strict`, when there is any problem at all.
    """
    if strict:
        require_none(problems)
    gone = {problem.path for problem in problems}
    train, val, test = (
        tuple(sample for sample in split if sample.path not in gone)
        for split in (dataset.train, dataset.val, dataset.test)
    )
    trained = {label for sample in train for label in labels_of(sample)}
    bare = [repr(name) for label, name in enumerate(dataset.classes) if label not in trained]
    if bare or not test:
        lost = f"no sample of {', '.join(bare)} is left to train on" if bare else "no test sample is left"
        raise DataError(
            f"After what cannot be read was left out, {lost}.{_first_of(problems)}", "Replace them, or add some."
        )
    skipped = (*dataset.skipped, *dict.fromkeys(problems))  # of windows of one sound it is the same problem
    return stamp(replace(dataset, train=train, val=val, test=test, skipped=skipped))


def stamp(dataset: Dataset) -> Dataset:
    """Return `dataset` with its fingerprint: equal for equal class names, contents, labels and splits, in any place."""
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    rows = sorted(
        (_content(sample), sample.labels if dataset.multilabel else sample.label, split)
        for split, samples in splits.items()
        for sample in samples
    )
    document = json.dumps([dataset.classes, rows])
    return replace(dataset, fingerprint=hashlib.sha256(document.encode()).hexdigest())


def _content(sample: Sample) -> str:
    return sample.digest if sample.part is None else f"{sample.digest} {sample.part}"


def require_none(problems: Sequence[Problem]) -> None:
    """Raise DataError, naming the first, when there is any problem: what `strict` asks for."""
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
