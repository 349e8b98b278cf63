"""`tledge train`: labelled samples → a run folder with a model in it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tledge import augment, backbones, data, documents, engine, gpu, heads, places
from tledge.commands import finetuning, pipeline, run_folder
from tledge.commands.clock import Clock, Note, Progress
from tledge.commands.fitting import Fitted, fit
from tledge.commands.writing import Order, Trained, write
from tledge.errors import TledgeError, did_you_mean
from tledge.schema import (
    Backbone,
    CacheCounts,
    Dataset,
    Features,
    TrainOptions,
    TrainResult,
)

_FEWEST_FOLDS = 2


def train(
    data: str | Path,
    out: str | Path,
    *,
    test_data: str | Path | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    on_note: Note | None = None,
    **options: Any,
) -> TrainResult:
    """Train a head on the samples in `data` and write the run folder `out`.

    `options` are the fields of TrainOptions: `backbone="vgg16", seed=1, …`. Without `test_data` or a `test/` folder,
    `test_fraction` of the samples is held out, by content and `seed`. Raises TledgeError for unusable data, an unknown
    backbone or head, options that contradict one another, or an `out` that is taken and not forced; then nothing is
    written, and a run that stood there stays.
    """
    order = _ordered(data, out, test_data, force, options)
    _check(order)
    return _train(order, Clock(on_progress, on_note))


def check(
    data: str | Path, out: str | Path, *, test_data: str | Path | None = None, force: bool = False, **options: Any
) -> None:
    """Raise what `train` with these arguments would raise before it reads the data."""
    _check(_ordered(data, out, test_data, force, options))


def replay(config: str | Path) -> dict[str, Any]:
    """Return the arguments of `train`, all but `out`, that made the run of a run folder (or its run.json)."""
    run = run_folder.read_run(places.at(config))
    return {"data": run["data"], "test_data": run["test_data"], **run["options"]}


def options_of(given: dict[str, Any]) -> TrainOptions:
    """Return `given` as options. Raises TypeError for a name that is none, TledgeError for a value of another kind."""
    known = {field.name for field in fields(TrainOptions)}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise TypeError(f"train() has no option '{unknown[0]}'. {did_you_mean(unknown[0], sorted(known))}")
    paths = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    try:
        return documents.typed(TrainOptions, paths)
    except ValueError as error:
        raise TledgeError(
            f"The option '{error}' cannot be {given[str(error)]!r}.", "See 'tledge train --help'."
        ) from error


@dataclass(frozen=True)
class _Step:
    """A run whose samples have gone through the frozen backbone."""

    order: Order
    dataset: Dataset
    backbone: Backbone
    features: Features
    provider: str
    clock: Clock
    cache: Path


def _ordered(
    data: str | Path, out: str | Path, test_data: str | Path | None, force: bool, options: dict[str, Any]
) -> Order:
    test_source = _absolute(test_data) if test_data else None
    return Order(_absolute(data), test_source, places.at(out), options_of(options), force)


def _check(order: Order) -> None:
    """Refuse now what would fail after minutes of work."""
    options = order.options
    if not 0 < options.test_fraction < 1:
        found = f"{options.test_fraction:g}"
        raise TledgeError(f"The held-out share must lie between 0 and 1, got {found}.", "Use 0.2, for instance.")
    if options.folds is not None and options.folds < _FEWEST_FOLDS:
        raise TledgeError(f"Cross-validation needs {_FEWEST_FOLDS} folds at least, got {options.folds}.", "Use 5.")
    if options.head is not None:
        heads.check(options.head, pipeline.head_options(options))
    if options.backbone not in (None, pipeline.NO_BACKBONE):
        backbones.check_name(options.backbone)
    _check_views(options)
    finetuning.check(options)
    if options.unfreeze and options.folds:
        raise TledgeError("Fine-tuning is not cross-validated: every fold would train anew.", "Leave --folds away.")
    engine.check(options.provider)
    pipeline.require("onnx", "jinja2", "pygal")
    for source in filter(None, (order.data, order.test_data)):
        places.check_apart(order.out, source)
    places.check_free_folder(order.out, force=order.force, files=run_folder.FILES)


def _check_views(options: TrainOptions) -> None:
    if options.augment is not None:
        augment.check_name(options.augment, options.views or 1)
    elif options.views is not None:
        known = ", ".join(augment.names())
        raise TledgeError("Views need an augmentation, none was named.", f"Add --augment: {known}.")


def _train(order: Order, clock: Clock) -> TrainResult:
    cache, options = places.cache_dir(), order.options
    with clock.stage("scan", "Reading files"):
        dataset = pipeline.load_data(order.data, order.test_data, options)
    finetuning.check_data(options, dataset)
    kind = pipeline.head_kind(options, dataset)
    heads.check(kind, pipeline.head_options(options), classes=dataset.classes, multilabel=dataset.multilabel)
    with clock.stage("backbone"):
        backbone = pipeline.load_backbone(options, dataset, cache, clock)
    clock.note("; ".join((*data.describe(dataset), *dataset.notes)))
    with clock.stage("extract"):
        provider = pipeline.resolve(options, backbone)
        dataset, features = pipeline.extract_all(
            dataset, backbone, cache, clock, provider=provider, strict=options.strict
        )
    step = _Step(order, dataset, backbone, features, provider, clock, cache)
    with TemporaryDirectory(prefix="tledge-") as folder:
        trained = _frozen(step) if options.unfreeze is None else _tuned(step, Path(folder))
        with places.whole_folder(order.out, force=order.force) as work:
            return write(work, trained, order, clock)


def _frozen(step: _Step) -> Trained:
    """Fit a head to what the backbone gives."""
    order, dataset = step.order, step.dataset
    with step.clock.stage("extract"):
        views = pipeline.extract_views(dataset, step.backbone, step.cache, step.clock, order.options, step.provider)
    with step.clock.stage("fit", "Fitting the head"), gpu.allowed(step.provider != "cpu"):
        fitted = fit(dataset, step.features, views, order.options, tests_apart=order.test_data is not None)
    seen = [step.features, views] if views else [step.features]
    counts = CacheCounts(sum(each.hits for each in seen), sum(each.misses for each in seen))
    return Trained(dataset, step.backbone, step.provider, counts, fitted, len(views.samples) if views else 0)


def _tuned(step: _Step, folder: Path) -> Trained:
    """Train upper layers of the backbone and a head together; leave the files that belong to the run in `folder`."""
    order, dataset, clock = step.order, step.dataset, step.clock
    run = finetuning.tune(
        dataset, step.features, step.backbone, order.options, step.provider, clock, step.cache, folder
    )
    backbone = run.network.backbone
    held_out = replace(dataset, train=())  # what it was trained on is of no more use
    with clock.stage("extract"):
        _, features = pipeline.extract_all(
            held_out, backbone, step.cache, clock, provider=step.provider, strict=order.options.strict
        )
    with clock.stage("fit"):
        _, val_part, tested = pipeline.split(features, held_out)
        head = run.head(dataset, val_part)
        rows, scores = pipeline.score(head, tested, dataset)
        val_scores = pipeline.score(head, val_part, dataset)[1] if val_part.samples else None
    counts = CacheCounts(step.features.hits + features.hits, step.features.misses + features.misses)
    views = run.facts.activations - len(dataset.train) - len(dataset.val)
    fitted = Fitted(head, tested, rows, scores, val_scores)
    return Trained(dataset, backbone, step.provider, counts, fitted, views, run)


def _absolute(path: str | Path) -> Path:
    return places.at(path).absolute()
