"""Sounds longer than a model's window → one sample for each window.

It is done after splits are drawn, so that all windows of a clip stay on one side; folds keep them together by their
digest, which is that of the file. `Sample.whole` tells which windows are decided together.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from tledge import machine
from tledge.decode_sound import duration
from tledge.errors import DataError
from tledge.modalities.sound import window_starts
from tledge.schema import Dataset, InputSpec, Sample, SoundSpec


def expand(dataset: Dataset, spec: InputSpec) -> Dataset:
    """Return `dataset` with every sound that is longer than a window of `spec` as its windows, `spec.hop` apart.

    Where `spec` has no hop, or is not about sounds, that is `dataset` itself. A sound that cannot be read any more is
    left as it is, for extraction to tell.
    """
    if not isinstance(spec, SoundSpec) or not spec.hop:
        return dataset
    return replace(
        dataset,
        train=_expanded(dataset.train, spec),
        val=_expanded(dataset.val, spec),
        test=_expanded(dataset.test, spec),
    )


def _expanded(samples: Sequence[Sample], spec: SoundSpec) -> tuple[Sample, ...]:
    with ThreadPoolExecutor(machine.cores(), thread_name_prefix="parts") as pool:
        spans = pool.map(lambda sample: _span(sample, spec), samples)
        return tuple(
            window for sample, span in zip(samples, spans, strict=True) for window in _windows(sample, span, spec)
        )


def _span(sample: Sample, spec: SoundSpec) -> tuple[float, float]:
    if sample.part is not None:
        return sample.part
    if isinstance(sample.value, np.ndarray):
        return 0.0, len(sample.value) / spec.rate
    try:
        return 0.0, duration(sample.path)
    except DataError:
        return 0.0, 0.0


def _windows(sample: Sample, span: tuple[float, float], spec: SoundSpec) -> list[Sample]:
    first, length = round(span[0] * spec.rate), round(span[1] * spec.rate) - round(span[0] * spec.rate)
    starts = window_starts(length, spec)
    if sample.whole or len(starts) == 1:
        return [sample]
    whole = f"{sample.path} {span[0]:g}-{span[1]:g}"
    parts = [((first + start) / spec.rate, (first + start + spec.samples) / spec.rate) for start in starts]
    return [replace(sample, part=part, whole=whole) for part in parts]
