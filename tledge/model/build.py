"""Backbone + Head + facts → the bytes of a model file that has been run once and does what the head did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tledge import engine, preprocess
from tledge.errors import ModelError
from tledge.model.join import join
from tledge.model.manifest import GOLDEN_SAMPLES, golden_samples, stamp
from tledge.model.verify import TOLERANCE
from tledge.schema import Backbone, GoldenCheck, LinearHead, Manifest, Sample


def build(
    backbone: Backbone, head: LinearHead, manifest: Manifest, samples: Sequence[Sample], expected: np.ndarray
) -> tuple[bytes, GoldenCheck]:
    """Return the sealed model file, and how it compares with what the head itself gave.

    `expected` float32 [n, classes] are the head's probabilities for `samples`, of which a few, spread over the set,
    become the golden samples. Raises ModelError when the joined graph and the head disagree: the file would not be what
    was measured.
    """
    model = join(backbone, head)
    rows = np.unique(np.linspace(0, len(samples) - 1, GOLDEN_SAMPLES).round().astype(int))
    images = preprocess.preprocess([samples[i].path for i in rows], backbone.preprocess)
    session = engine.open_session(model.SerializeToString(), provider="cpu", name="The joined model")
    (found,) = session.run(["probabilities"], {"image": images})
    check = _compare(found, expected[rows], TOLERANCE[manifest.precision])
    if not check.passed:
        raise ModelError(
            f"The joined model must give what its head gave, found a difference of {check.max_abs_diff:.2g}.",
            "Please report this as a bug, with the backbone's name.",
        )
    return stamp(model, replace(manifest, golden=golden_samples(images, found))), check


def _compare(found: np.ndarray, expected: np.ndarray, tolerance: float) -> GoldenCheck:
    worst = float(np.abs(found - expected).max())
    flips = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return GoldenCheck(len(found), worst, flips, tolerance, passed=worst <= tolerance)
