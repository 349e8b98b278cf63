"""The arrows of the sentence as the steps that training and exporting share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tledge import __version__, data, heads
from tledge.commands.clock import Clock
from tledge.errors import MissingExtra
from tledge.features import FeatureStore, extract
from tledge.heads import metrics
from tledge.model.manifest import MANIFEST_VERSION
from tledge.schema import Backbone, Dataset, Features, LinearHead, Manifest, Metrics, Sample

EXTRACTING = "Extracting features"


def require(*modules: str) -> None:
    """Raise MissingExtra unless `modules` of the extra `train` are there, before minutes of work need them at last."""
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtra(module, "train")


def load_data(source: Path, test_source: Path | None, options: dict[str, Any]) -> Dataset:
    """Find, label and split the samples as `options` of a run say."""
    return data.load(
        source,
        test_data=test_source,
        test_fraction=options["test_fraction"],
        seed=options["seed"],
        strict=options["strict"],
    )


def extract_all(
    dataset: Dataset, backbone: Backbone, cache: Path, clock: Clock, *, provider: str, strict: bool
) -> tuple[Dataset, Features]:
    """Extract every sample of `dataset`; return it without those that cannot be decoded, and the features of the rest.

    The rows stand in the order train, val, test. `provider` is one that `engine.resolve` gave. With `strict`, a sample
    that cannot be decoded is a DataError.
    """
    everything = (*dataset.train, *dataset.val, *dataset.test)
    with FeatureStore(cache) as store:
        features = extract(
            everything,
            backbone,
            store,
            provider=provider,
            on_progress=lambda done, total: clock.tell(EXTRACTING, done, total),
        )
    if features.skipped:
        dataset = data.drop(dataset, features.skipped, strict=strict)
    return dataset, features


def split(features: Features, dataset: Dataset) -> tuple[Features, Features, Features]:
    """Cut the rows of `extract_all` into those of train, val and test."""
    ends = np.cumsum([len(dataset.train), len(dataset.val), len(dataset.test)])
    train, val, test = (
        slice(end - n, end)
        for end, n in zip(ends, (len(dataset.train), len(dataset.val), len(dataset.test)), strict=True)
    )
    return _rows(features, train), _rows(features, val), _rows(features, test)


def score(head: str, fitted: LinearHead, features: Features, classes: Sequence[str]) -> tuple[np.ndarray, Metrics]:
    """Return the probabilities float32 [n, classes] of `features`, and the metrics against their labels."""
    rows = heads.probabilities(head, fitted, features.matrix)
    return rows, metrics.evaluate(rows, heads.labels(features.samples), tuple(classes))


def manifest_of(backbone: Backbone, classes: Sequence[str], fingerprint: str, accuracy: float, tested: int) -> Manifest:
    """Return the manifest of a model that was measured on `tested` pictures; `model.build` adds golden samples."""
    return Manifest(
        schema_version=MANIFEST_VERSION,
        tledge_version=__version__,
        created=now(),
        backbone=backbone.name,
        backbone_digest=backbone.digest,
        licence=backbone.licence,
        precision=backbone.precision,
        classes=tuple(classes),
        preprocess=backbone.preprocess,
        accuracy=accuracy,
        test_samples=tested,
        data_fingerprint=fingerprint,
    )


def now() -> str:
    """Return this moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _rows(features: Features, part: slice) -> Features:
    samples: tuple[Sample, ...] = features.samples[part]
    return replace(features, samples=samples, matrix=features.matrix[part])
