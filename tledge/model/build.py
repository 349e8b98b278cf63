"""Backbone + Head + facts → the bytes of a model file that has been run once and does what the head did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tledge import engine, feed, modalities
from tledge.data.opening import opened
from tledge.errors import ModelError
from tledge.model import image_input, targets, whole_pictures
from tledge.model.fixed_batch import fix_batch
from tledge.model.join import join
from tledge.model.manifest import GOLDEN_SAMPLES, golden_samples, stamp
from tledge.model.tidy import tidy
from tledge.model.verify import TOLERANCE
from tledge.reading import read
from tledge.schema import Backbone, GoldenCheck, Manifest, Packaging, PreprocessSpec, Sample

if TYPE_CHECKING:
    import onnx

_PLAIN = Packaging()


def build(
    backbone: Backbone,
    head: onnx.ModelProto,
    manifest: Manifest,
    samples: Sequence[Sample],
    expected: np.ndarray,
    packaging: Packaging = _PLAIN,
) -> tuple[bytes, GoldenCheck]:
    """Return the sealed model file, and how it compares with what the head itself gave.

    `head` is a graph, `features` → `probabilities`. `expected` float32 [n, classes] are the head's probabilities for
    `samples`, of which a few, spread over the set, become the golden samples. Raises ModelError when the joined graph
    and the head disagree, for the file would not be what was measured, and when the target of `packaging` cannot read
    the graph.
    """
    model = _joined(backbone, head, packaging)
    rows = np.unique(np.linspace(0, len(samples) - 1, GOLDEN_SAMPLES).round().astype(int))
    chosen, spec = [samples[i] for i in rows], backbone.preprocess
    session = engine.open_session(model.SerializeToString(), provider="cpu", name="The joined model")
    reader, given = modalities.reader(spec, engine.metadata(session)), feed.input_of(session)
    batch = [read(sample, reader) for sample in chosen]
    # A graph that resizes by itself leaves pictures alone that have the model's size already.
    found = feed.probabilities(session, given, batch, reader)
    check = _compare(found, expected[rows], TOLERANCE[manifest.precision])
    if not check.passed:
        raise ModelError(
            f"The joined model must give what its head gave, found a difference of {check.max_abs_diff:.2g}.",
            "Please report this as a bug, with the backbone's name.",
        )
    if packaging.input == "image" and isinstance(spec, PreprocessSpec):
        batch = [whole_pictures.golden_picture(opened(sample), spec) for sample in chosen]
        reader = modalities.reader(spec, whole=True)
    golden = golden_samples(batch, reader, lambda rows: feed.probabilities(session, given, rows, reader))
    return stamp(model, replace(manifest, golden=golden, target=packaging.target, input=packaging.input)), check


def _joined(backbone: Backbone, head: onnx.ModelProto, packaging: Packaging) -> onnx.ModelProto:
    model, spec = join(backbone, head), backbone.preprocess
    if packaging.input == "image" and isinstance(spec, PreprocessSpec):
        model = image_input.take_any_size(model, spec)
    if packaging.batch is not None:
        fix_batch(model, packaging.batch)
    model = tidy(model)
    targets.check(model, targets.TARGETS[packaging.target])
    return model


def _compare(found: np.ndarray, expected: np.ndarray, tolerance: float) -> GoldenCheck:
    worst = float(np.abs(found - expected).max())
    flips = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return GoldenCheck(len(found), worst, flips, tolerance, passed=worst <= tolerance)
