"""Fine-tuning as a step of training: the trunk's activations are extracted once, then the tail trains on them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from tledge import finetune, heads, modalities
from tledge.commands import pipeline
from tledge.commands.clock import Clock
from tledge.errors import OutputError, TledgeError
from tledge.features import FeatureStore, extract
from tledge.reading import read
from tledge.schema import Backbone, Dataset, Features, FineTuning, Head, InputSpec, Sample, TrainOptions

_CHUNK = 512  # samples whose activations are in memory at a time
_KINDS = ("linear", "multilabel")


class TunedRun(NamedTuple):
    """What fine-tuning made of a run: the network as Tuned says, and what there is to tell of it."""

    network: finetune.Tuned
    facts: FineTuning

    def head(self, dataset: Dataset, validation: Features) -> Head:
        """Return the head that was trained with the network, calibrated on `validation` features of its backbone."""
        return heads.ready(_KINDS[dataset.multilabel], self.network.weights, self.network.bias, validation)


def check(options: TrainOptions) -> None:
    """Raise TledgeError unless fine-tuning can follow `options`, as far as can be told without the samples."""
    if options.unfreeze is None:
        return
    if options.head not in (None, *_KINDS):
        raise TledgeError(
            f"Fine-tuning trains a head of its own, not '{options.head}'.", "Leave --head or --unfreeze away."
        )
    if options.backbone is not None:
        finetune.check(options.unfreeze, options.backbone, pipeline.backbone_options(options))
    _how(options)


def check_data(options: TrainOptions, dataset: Dataset) -> None:
    """Raise TledgeError unless the default backbone for `dataset` can be fine-tuned; `check` knows any other."""
    if options.unfreeze is None or options.backbone is not None:
        return
    name = pipeline.backbone_name(options, dataset)
    if name == pipeline.NO_BACKBONE:
        raise TledgeError(
            "Fine-tuning needs a backbone, and these vectors go to the head as they are.", "Name a network for them."
        )
    finetune.check(options.unfreeze, name, pipeline.backbone_options(options))


def tune(
    dataset: Dataset,
    features: Features,
    backbone: Backbone,
    options: TrainOptions,
    provider: str,
    clock: Clock,
    cache: Path,
    folder: Path,
) -> TunedRun:
    """Fine-tune `backbone` on the training samples of `dataset` and their views; leave the files in `folder`.

    `features` are what the frozen backbone gives; the new head starts where one fitted to them ends. Validation samples
    are looked at only. Raises OutputError when the disk has no room for them.
    """
    plan = finetune.plan(
        pipeline.backbone_name(options, dataset),
        options.unfreeze,
        pipeline.backbone_options(options),
        cache,
        on_stage=lambda words: clock.tell(words, 0, 0),
    )
    samples = (*dataset.train, *pipeline.view_samples(dataset, options), *dataset.val)
    _announce(plan, len(samples), cache, clock)
    how = _how(options)
    with TemporaryDirectory(prefix="tledge-tune-", dir=cache) as place:
        rows = Path(place, "rows.npy")
        with clock.stage("extract"):
            _write_rows(rows, plan, backbone.preprocess, samples, provider, clock, cache)
        with clock.stage("tune", "Fine-tuning"):
            tuned = finetune.train(
                plan,
                rows,
                heads.targets(samples, len(dataset.classes)) if dataset.multilabel else heads.labels(samples),
                folder,
                how,
                classes=len(dataset.classes),
                pictures=_numbers(samples),
                validation=np.arange(len(samples)) >= len(samples) - len(dataset.val),
                class_weights=_class_weights(dataset, options),
                start=_start(dataset, features, options),
                on_progress=lambda epoch: clock.tell("Fine-tuning", epoch.number, epoch.epochs),
            )
    facts = FineTuning(
        layer=plan.layers[0],
        layers=len(plan.layers),
        activations=len(samples),
        bytes=len(samples) * plan.bytes_per_sample,
        epochs=how.epochs,
        seconds=tuned.history[-1].seconds,
        loss=tuple(epoch.loss for epoch in tuned.history),
        accuracy=tuple(epoch.accuracy for epoch in tuned.history),
    )
    return TunedRun(tuned, facts)


def _how(options: TrainOptions) -> finetune.FineTuneOptions:
    named = ("epochs", "batch_size", "learning_rate", "optimizer", "dropout")
    given = {name: getattr(options, name) for name in named if getattr(options, name) is not None}
    return finetune.FineTuneOptions(seed=options.seed, train_batch_norm=options.train_batch_norm, **given)


def _announce(plan: finetune.Plan, count: int, cache: Path, clock: Clock) -> None:
    """Say what the activations will take, and refuse what the disk cannot hold."""
    size = count * plan.bytes_per_sample
    needed = size * (2 if plan.cut else 1)  # in the cache, and once more in a row while the tail trains
    free = shutil.disk_usage(cache).free
    kind = f"activations below {plan.layers[0]}" if plan.cut else "pictures"
    words = (
        f"Fine-tuning {len(plan.layers)} layers from {plan.layers[0]} up; {count} {kind} take {needed / 1e6:,.0f} MB"
    )
    clock.note(f"{words} in {cache} ({free / 1e9:,.1f} GB free). {plan.note}")
    if needed > free:
        raise OutputError(
            f"{count} {kind} take {needed / 1e9:,.1f} GB, and {cache} has {free / 1e9:,.1f} GB free.",
            "Make room there, set TLEDGE_CACHE_DIR, unfreeze fewer layers or ask for fewer views.",
        )


def _write_rows(
    path: Path,
    plan: finetune.Plan,
    spec: InputSpec,
    samples: Sequence[Sample],
    provider: str,
    clock: Clock,
    cache: Path,
) -> None:
    if plan.cut is None:
        _write_inputs(path, plan, spec, samples)
        return
    trunk = finetune.trunk(plan, cache, lambda words: clock.tell(words, 0, 0))
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (len(samples), plan.length))
    with FeatureStore(cache) as store:
        for first in range(0, len(samples), _CHUNK):
            part = slice(first, first + _CHUNK)
            found = extract(samples[part], trunk, store, provider=provider, half=True)
            rows[part] = found.matrix
            clock.tell("Extracting activations", min(first + _CHUNK, len(samples)), len(samples))
    rows.flush()


def _write_inputs(path: Path, plan: finetune.Plan, spec: InputSpec, samples: Sequence[Sample]) -> None:
    reader = modalities.reader(spec)
    blank = plan.network_input(reader.blank[None], spec)[0]
    rows = np.lib.format.open_memmap(path, "w+", blank.dtype, (len(samples), *blank.shape))
    for sample, row in zip(samples, rows, strict=True):
        row[...] = plan.network_input(read(sample, reader)[None], spec)[0]
    rows.flush()


def _class_weights(dataset: Dataset, options: TrainOptions) -> np.ndarray | None:
    if dataset.multilabel:
        return None
    return heads.class_weights(dataset.train, len(dataset.classes), options.class_weight)


def _numbers(samples: Sequence[Sample]) -> np.ndarray:
    """Return a number int [n] for each sample that its views share."""
    known = {digest: number for number, digest in enumerate(dict.fromkeys(sample.digest for sample in samples))}
    return np.array([known[sample.digest] for sample in samples])


def _start(dataset: Dataset, features: Features, options: TrainOptions) -> tuple[np.ndarray, np.ndarray]:
    train_part = pipeline.split(features, dataset)[0]
    head = heads.fit(
        _KINDS[dataset.multilabel],
        train_part,
        dataset.classes,
        pipeline.head_options(options),
        options.seed,
        multilabel=dataset.multilabel,
    )
    return head.arrays["weights"], head.arrays["bias"]
