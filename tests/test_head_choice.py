"""The head behind an int8 backbone: the better of two, judged on samples that neither was fitted to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tledge
from tledge import heads
from tledge.commands.exporting import head_choice
from tledge.commands.exporting.head_choice import Parts
from tledge.schema import Dataset, Features, Head, HeadOptions, Sample

CLASSES = ("left", "right")


def samples(count: int, label_of=lambda i: i % 2) -> tuple[Sample, ...]:
    return tuple(Sample(str(i), label_of(i), hashlib.sha256(str(i).encode()).hexdigest()) for i in range(count))


def features(rows: tuple[Sample, ...], noise: float, seed: int) -> Features:
    """Return rows whose first number tells the class, and the second the noise on it."""
    rng = np.random.default_rng(seed)
    truth = np.array([2.0 * each.label - 1 for each in rows])
    disturbance = rng.normal(0, noise, len(rows))
    matrix = np.stack([truth + disturbance, disturbance, *rng.normal(size=(4, len(rows)))], axis=1)
    return Features(rows, matrix.astype(np.float32), 0, len(rows))


def fitted(dataset: Dataset, exact: Features) -> Head:
    train = Features(dataset.train, exact.matrix[: len(dataset.train)], 0, 0)
    return heads.fit("linear", train, CLASSES, HeadOptions(), 0)


@pytest.mark.parametrize("val", [0, 40])
def test_a_head_that_was_fitted_again_is_kept_where_it_is_better(val: int) -> None:
    rows = samples(200 + val)
    dataset = Dataset(CLASSES, rows[: 160 - val], rows[160 - val : 160], rows[160:])
    exact = features(rows, 0.3, 0)
    rounded = replace(exact, matrix=exact.matrix + np.float32([6, 0, 0, 0, 0, 0]))  # a shift that refitting takes back
    head = fitted(dataset, exact)
    kept, said = head_choice.choose(head, Parts(exact, None), Parts(rounded, None), dataset, 0)
    assert (said.kept, said.judged_on) == ("refitted", "validation" if val else "folds")
    assert said.samples == (val or 160)
    assert said.accuracy_refitted > said.accuracy_original
    assert kept.arrays["bias"] is not head.arrays["bias"]


def test_the_original_head_stays_where_fitting_again_made_it_worse() -> None:
    rows = samples(240)
    dataset = Dataset(CLASSES, rows[:120], rows[120:180], rows[180:])
    exact = features(rows, 0.3, 0)
    spoilt = exact.matrix.copy()
    spoilt[:120, 0] = -9 * spoilt[:120, 0]  # of the samples to train on alone, so that refitting learns what is wrong
    head = fitted(dataset, exact)
    kept, said = head_choice.choose(head, Parts(exact, None), Parts(replace(exact, matrix=spoilt), None), dataset, 0)
    assert said.kept == "original" and kept is head
    assert said.accuracy_original > said.accuracy_refitted


def test_the_samples_to_test_on_decide_nothing() -> None:
    rows = samples(200)
    dataset = Dataset(CLASSES, rows[:160], (), rows[160:])
    exact = features(rows, 0.3, 0)
    other = exact.matrix.copy()
    other[160:] = 1e3
    first, second = (
        head_choice.choose(
            fitted(dataset, exact), *(Parts(replace(exact, matrix=m), None) for _ in range(2)), dataset, 0
        )
        for m in (exact.matrix, other)
    )
    assert first[1] == second[1]
    np.testing.assert_array_equal(first[0].arrays["weights"], second[0].arrays["weights"])


def test_a_class_that_cannot_be_spared_leaves_its_fold_out() -> None:
    rows = samples(40, lambda i: int(i == 0))  # one sample of the second class
    dataset = Dataset(CLASSES, rows[:30], (), rows[30:])
    exact = features(rows, 0.3, 0)
    _, said = head_choice.choose(fitted(dataset, exact), Parts(exact, None), Parts(exact, None), dataset, 0)
    assert 0 < said.samples < 30 and said.kept == "refitted"


def test_the_document_of_an_export_says_which_and_why(run: Path, tmp_path: Path) -> None:
    result = tledge.export(run, tmp_path / "m.onnx")
    choice, counts = result.head_choice, json.loads((run / "run.json").read_text())["samples"]
    assert choice is not None and choice.judged_on == "folds" and choice.samples == counts["train"]
    assert choice.accuracy_original is not None and choice.accuracy_refitted is not None
    assert choice.kept == ("original" if choice.accuracy_original > choice.accuracy_refitted else "refitted")
    assert tledge.export(run, tmp_path / "f.onnx", precision="fp32").head_choice is None
