"""The arrows of the sentence as the steps that training and exporting share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tledge import __version__, augment, backbones, data, engine, heads
from tledge.commands.clock import Clock
from tledge.errors import DataError, MissingExtra
from tledge.features import FeatureStore, extract
from tledge.heads import metrics
from tledge.modalities import READERS
from tledge.model.manifest import MANIFEST_VERSION
from tledge.schema import (
    Backbone,
    BackboneOptions,
    Dataset,
    Features,
    Head,
    HeadOptions,
    Kind,
    Manifest,
    Metrics,
    Sample,
    TrainOptions,
    VectorSpec,
)

NO_BACKBONE = "none"
DEFAULT_BACKBONES: dict[Kind, str] = {
    "image": "efficientnet_lite0",
    "audio": "speech_embedding",
    "text": "minilm_l6",
    "vector": NO_BACKBONE,
}
EXTRACTING = "Extracting features"


def require(*modules: str) -> None:
    """Raise MissingExtra unless `modules` of the extra `train` are there, before minutes of work need them at last."""
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtra(module, "train")


def backbone_options(options: TrainOptions) -> BackboneOptions:
    """Return those of `options` that are about the backbone."""
    return BackboneOptions(**{field.name: getattr(options, field.name) for field in fields(BackboneOptions)})


def head_options(options: TrainOptions) -> HeadOptions:
    """Return those of `options` that are about the head; of fine-tuning, all about training is about the network."""
    if options.unfreeze is not None:
        return HeadOptions(class_weight=options.class_weight, positive=options.positive)
    return HeadOptions(**{field.name: getattr(options, field.name) for field in fields(HeadOptions)})


def head_kind(options: TrainOptions, dataset: Dataset) -> str:
    """Return the kind of head asked for, or the one for such data."""
    return options.head or ("multilabel" if dataset.multilabel else "linear")


def load_data(source: Path, test_source: Path | None, options: TrainOptions) -> Dataset:
    """Find, label and split the samples as `options` say."""
    return data.load(
        source,
        test_data=test_source,
        test_fraction=options.test_fraction,
        seed=options.seed,
        strict=options.strict,
        group_by=options.group_by,
    )


def backbone_name(options: TrainOptions, dataset: Dataset) -> str:
    """Return the name or path of the backbone asked for, or of the one for such data."""
    return options.backbone or DEFAULT_BACKBONES[dataset.train[0].kind]


def load_backbone(options: TrainOptions, dataset: Dataset, cache: Path, clock: Clock) -> Backbone:
    """Return the backbone asked for, or the one for such data: vectors go to the head, standardised.

    Raises DataError when the backbone takes samples of another modality, or vectors of another length.
    """
    sample = dataset.train[0]
    name = backbone_name(options, dataset)
    if name == NO_BACKBONE:
        if sample.kind != "vector":
            found = READERS[sample.kind].noun
            raise DataError(f"Only vectors go without a backbone; these samples are {found}s.", "Name a backbone.")
        vectors = np.stack([each.value for each in dataset.train])
        chosen = backbones.standardised(vectors, cache, dataset.columns)
    else:
        chosen = backbones.load(name, cache, backbone_options(options), on_stage=lambda words: clock.tell(words, 0, 0))
        _check_fit(chosen, sample)
    if options.augment is not None:
        augment.check_kind(options.augment, chosen.preprocess.kind)
    return chosen


def _check_fit(backbone: Backbone, sample: Sample) -> None:
    spec = backbone.preprocess
    if isinstance(spec, VectorSpec):  # to which small pictures are vectors too
        size = sample.value.size if isinstance(sample.value, np.ndarray) else None
        if size != spec.length:
            found = f"{READERS[sample.kind].noun}s" if size is None else f"{size} numbers a sample"
            raise DataError(
                f"Backbone {backbone.name} takes vectors of {spec.length} numbers; the data holds {found}.",
                "Use the data that it was made for, or another backbone.",
            )
    elif sample.kind != spec.kind:
        wanted, found = READERS[spec.kind].noun, READERS[sample.kind].noun
        raise DataError(
            f"Backbone {backbone.name} takes {wanted}s; these samples are {found}s.",
            f"Leave --backbone away, or name a network that takes {found}s.",
        )


def extract_all(
    dataset: Dataset, backbone: Backbone, cache: Path, clock: Clock, *, provider: str, strict: bool
) -> tuple[Dataset, Features]:
    """Extract every sample of `dataset`; return it without those that cannot be decoded, and the features of the rest.

    With a backbone that hears windows of a longer sound, each of these is a sample in what is returned.
    The rows stand in the order train, val, test. `provider` is one that `engine.resolve` gave. With `strict`, a sample
    that cannot be decoded is a DataError.
    """
    dataset = data.expand(dataset, backbone.preprocess)
    features = _extract((*dataset.train, *dataset.val, *dataset.test), backbone, cache, clock, provider)
    if features.skipped:
        dataset = data.drop(dataset, features.skipped, strict=strict)
        lost = {problem.path for problem in features.skipped}  # of which other parts may have been read
        features = rows(features, np.flatnonzero([sample.path not in lost for sample in features.samples]))
    return dataset, features


def extract_views(
    dataset: Dataset, backbone: Backbone, cache: Path, clock: Clock, options: TrainOptions, provider: str
) -> Features | None:
    """Extract the augmented views of the training samples that `options` ask for; None when they ask for none."""
    views = view_samples(dataset, options)
    return _extract(views, backbone, cache, clock, provider) if views else None


def view_samples(dataset: Dataset, options: TrainOptions) -> tuple[Sample, ...]:
    """Return the augmented views of the training samples that `options` ask for."""
    if options.augment is None:
        return ()
    words = augment.views(options.augment, options.views or 1, options.seed)
    return tuple(replace(sample, view=view) for view in words for sample in dataset.train)


def _extract(samples: Sequence[Sample], backbone: Backbone, cache: Path, clock: Clock, provider: str) -> Features:
    with FeatureStore(cache) as store:
        return extract(
            samples,
            backbone,
            store,
            provider=provider,
            on_progress=lambda done, total: clock.tell(EXTRACTING, done, total),
        )


def resolve(options: TrainOptions, backbone: Backbone) -> str:
    """Return the provider that runs `backbone` where `options` leave it open."""
    return engine.resolve(options.provider, backbone.path)


def split(features: Features, dataset: Dataset) -> tuple[Features, Features, Features]:
    """Cut the rows of `extract_all` into those of train, val and test."""
    ends = np.cumsum([len(dataset.train), len(dataset.val), len(dataset.test)])
    train, val, test = (
        slice(end - n, end)
        for end, n in zip(ends, (len(dataset.train), len(dataset.val), len(dataset.test)), strict=True)
    )
    return rows(features, train), rows(features, val), rows(features, test)


def rows(features: Features, part: slice | np.ndarray) -> Features:
    """Return some rows of `features`, a slice or row numbers int [n], with their samples."""
    samples = features.samples[part] if isinstance(part, slice) else tuple(features.samples[i] for i in part)
    return replace(features, samples=samples, matrix=features.matrix[part])


def together(first: Features, second: Features | None) -> Features:
    """Return the rows of both."""
    if second is None:
        return first
    matrix = np.concatenate([first.matrix, second.matrix])
    return replace(first, samples=(*first.samples, *second.samples), matrix=matrix)


def score(head: Head, features: Features, dataset: Dataset) -> tuple[np.ndarray, Metrics]:
    """Return the probabilities float32 [n, classes] of `features`, and the metrics against their labels."""
    found = heads.probabilities(head, features.matrix)
    return found, measure(found, features.samples, dataset.classes, head.thresholds, dataset.multilabel)


def measure(
    probabilities: np.ndarray,
    samples: Sequence[Sample],
    classes: tuple[str, ...],
    thresholds: tuple[float, ...],
    multilabel: bool,
) -> Metrics:
    """Return the metrics of `probabilities` float32 [n, classes] against the labels of `samples`.

    Windows of one whole count as one sample, with the mean of their probabilities.
    """
    probabilities, samples = wholes(probabilities, samples)
    truth = heads.targets(samples, len(classes)) if multilabel else heads.labels(samples)
    return metrics.evaluate(probabilities, truth, classes, thresholds, multilabel)


def wholes(probabilities: np.ndarray, samples: Sequence[Sample]) -> tuple[np.ndarray, Sequence[Sample]]:
    """Return float32 [m, classes] and m samples, one for all windows of a whole: the mean, and all that they cover."""
    if not any(sample.whole for sample in samples):
        return probabilities, samples
    places: dict[str, list[int]] = {}
    for at, sample in enumerate(samples):
        places.setdefault(sample.whole or f"{at}", []).append(at)
    means = np.stack([probabilities[rows].mean(axis=0) for rows in places.values()])
    return means, [_whole([samples[at] for at in rows]) for rows in places.values()]


def count_wholes(samples: Sequence[Sample]) -> int:
    """Return how many `samples` there are, all windows of a whole being one."""
    return sum(not sample.whole for sample in samples) + len({sample.whole for sample in samples} - {""})


def _whole(windows: Sequence[Sample]) -> Sample:
    parts = [window.part for window in windows if window.part is not None]
    if not windows[0].whole or not parts:
        return windows[0]
    return replace(windows[0], part=(min(start for start, _ in parts), max(end for _, end in parts)))


def manifest_of(backbone: Backbone, dataset: Dataset, head: Head, accuracy: float, tested: int) -> Manifest:
    """Return the manifest of a model that was measured on `tested` samples; `model.build` adds golden samples."""
    return Manifest(
        schema_version=MANIFEST_VERSION,
        tledge_version=__version__,
        created=now(),
        backbone=backbone.name,
        backbone_digest=backbone.digest,
        licence=backbone.licence,
        precision=backbone.precision,
        classes=dataset.classes,
        preprocess=backbone.preprocess,
        accuracy=accuracy,
        test_samples=tested,
        data_fingerprint=dataset.fingerprint,
        head=head.kind,
        multilabel=dataset.multilabel,
        thresholds=head.thresholds,
    )


def now() -> str:
    """Return this moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
