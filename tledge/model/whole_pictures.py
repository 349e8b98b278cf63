"""Whole pictures to try a graph on that resizes by itself: golden samples, and how it compares with our own resize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tledge import engine, feed, modalities
from tledge.data.opening import opened
from tledge.modalities.image import fit_into, whole
from tledge.model.image_input import fitting
from tledge.schema import PreprocessSpec, Sample

_GOLDEN_SHARE = 1.5  # of the model's pixels: enough to need resizing, and no burden for the file
# Threads of one session that spin after a run would take the cores from the other.
_IN_TURN = {"session.intra_op.allow_spinning": "0"}


def golden_picture(source: str | bytes | np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Return the picture `source` with at most half as many pixels again as `spec` has, in its own proportions."""
    pixels = whole(source)
    height, width = pixels.shape[:2]
    scale = (_GOLDEN_SHARE * spec.height * spec.width / (height * width)) ** 0.5
    if scale >= 1:
        return pixels
    out = np.empty((max(1, int(height * scale)), max(1, int(width * scale)), 3), np.uint8)
    fit_into(pixels, PreprocessSpec(*out.shape[:2]), out)
    return out


def through_graph(
    content: bytes, spec: PreprocessSpec, samples: Sequence[Sample]
) -> tuple[np.ndarray, tuple[float, float]]:
    """Return what the model file `content` gives for whole `samples`, float32 [n, classes], and how its pixels differ.

    They are compared with what `fit_into` makes of the same decoded pictures: the largest difference of a grey level,
    and the mean one.
    """
    model = engine.open_session(content, provider="cpu", name="The joined model", tune=_IN_TURN)
    resizing = fitting(spec).SerializeToString()
    resize = engine.open_session(resizing, provider="cpu", name="The resizing graph", tune=_IN_TURN)
    given, reader = feed.input_of(model), modalities.reader(spec, whole=True)
    native = np.empty((spec.height, spec.width, 3), np.uint8)
    rows, largest, total = [], 0, 0.0
    for sample in samples:
        picture = whole(opened(sample))
        rows.append(feed.probabilities(model, given, [picture], reader))
        fit_into(picture, spec, native)
        difference = np.abs(
            resize.run(None, {"image": picture[None]})[0][0].transpose(1, 2, 0).astype(np.int16) - native
        )
        largest, total = max(largest, int(difference.max())), total + float(difference.mean())
    return np.concatenate(rows), (float(largest), total / len(rows))
