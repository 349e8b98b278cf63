"""`tledge train`: labelled samples → a run folder with a model in it."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tledge import __version__, augment, backbones, data, documents, engine, heads, model, places, report
from tledge.commands import findings, finetuning, pipeline, run_folder
from tledge.commands.clock import Clock, Note, Progress
from tledge.errors import TledgeError, did_you_mean
from tledge.heads import metrics
from tledge.schema import (
    Backbone,
    CacheCounts,
    CrossValidation,
    Dataset,
    Features,
    Head,
    Metrics,
    ReportData,
    SampleCounts,
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
class _Order:
    """What was asked for; paths are absolute but for `out`, which is told as it was given."""

    data: Path
    test_data: Path | None
    out: Path
    options: TrainOptions
    force: bool


@dataclass(frozen=True)
class _Step:
    """A run whose samples have gone through the frozen backbone."""

    order: _Order
    dataset: Dataset
    backbone: Backbone
    features: Features
    provider: str
    clock: Clock
    cache: Path


@dataclass(frozen=True)
class _Fitted:
    """The head of a run, and how it did."""

    head: Head
    tested: Features
    rows: np.ndarray
    metrics: Metrics
    val_metrics: Metrics | None
    cross_validation: CrossValidation | None = None


@dataclass(frozen=True)
class _Trained:
    """What has come of a run, on its way into the run folder."""

    dataset: Dataset
    backbone: Backbone
    provider: str
    cache: CacheCounts
    fitted: _Fitted
    views: int
    tuned: finetuning.TunedRun | None = None


def _ordered(
    data: str | Path, out: str | Path, test_data: str | Path | None, force: bool, options: dict[str, Any]
) -> _Order:
    test_source = _absolute(test_data) if test_data else None
    return _Order(_absolute(data), test_source, places.at(out), options_of(options), force)


def _check(order: _Order) -> None:
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
    pipeline.require("onnx", "threadpoolctl", "jinja2", "pygal")
    for source in filter(None, (order.data, order.test_data)):
        places.check_apart(order.out, source)
    places.check_free_folder(order.out, force=order.force, files=run_folder.FILES)


def _check_views(options: TrainOptions) -> None:
    if options.augment is not None:
        augment.check_name(options.augment, options.views or 1)
    elif options.views is not None:
        known = ", ".join(augment.names())
        raise TledgeError("Views need an augmentation, none was named.", f"Add --augment: {known}.")


def _train(order: _Order, clock: Clock) -> TrainResult:
    cache, options = places.cache_dir(), order.options
    with clock.stage("scan", "Reading files"):
        dataset = pipeline.load_data(order.data, order.test_data, options)
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
            return _write(work, trained, order, clock)


def _frozen(step: _Step) -> _Trained:
    """Fit a head to what the backbone gives."""
    order, dataset = step.order, step.dataset
    with step.clock.stage("extract"):
        views = pipeline.extract_views(dataset, step.backbone, step.cache, step.clock, order.options, step.provider)
    with step.clock.stage("fit", "Fitting the head"):
        fitted = _fit(dataset, step.features, views, order.options, order.test_data is not None)
    seen = [step.features, views] if views else [step.features]
    counts = CacheCounts(sum(each.hits for each in seen), sum(each.misses for each in seen))
    return _Trained(dataset, step.backbone, step.provider, counts, fitted, len(views.samples) if views else 0)


def _tuned(step: _Step, folder: Path) -> _Trained:
    """Train upper layers of the backbone and a head together; leave the files that belong to the run in `folder`."""
    order, dataset, clock = step.order, step.dataset, step.clock
    run = finetuning.tune(
        dataset, step.features, step.backbone, order.options, step.provider, clock, step.cache, folder
    )
    backbone = run.network.backbone
    with clock.stage("extract"):
        _, features = pipeline.extract_all(
            dataset, backbone, step.cache, clock, provider=step.provider, strict=order.options.strict
        )
    with clock.stage("fit"):
        _, val_part, tested = pipeline.split(features, dataset)
        head = run.head(dataset, val_part)
        rows, scores = pipeline.score(head, tested, dataset)
        val_scores = pipeline.score(head, val_part, dataset)[1] if val_part.samples else None
    counts = CacheCounts(step.features.hits + features.hits, step.features.misses + features.misses)
    views = run.facts.activations - len(dataset.train) - len(dataset.val)
    fitted = _Fitted(head, tested, rows, scores, val_scores)
    return _Trained(dataset, backbone, step.provider, counts, fitted, views, run)


# ── Fitting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fit(
    dataset: Dataset, features: Features, views: Features | None, options: TrainOptions, tests_apart: bool
) -> _Fitted:
    train_part, val_part, tested = pipeline.split(features, dataset)
    head = _fit_head(dataset, pipeline.together(train_part, views), val_part, options)
    rows, scores = pipeline.score(head, tested, dataset)
    val_scores = pipeline.score(head, val_part, dataset)[1] if val_part.samples else None
    pool = train_part if tests_apart or not options.folds else pipeline.together(train_part, tested)
    folds = _cross_validate(pool, views, dataset, options) if options.folds else None
    return _Fitted(head, tested, rows, scores, val_scores, folds)


def _fit_head(dataset: Dataset, features: Features, validation: Features | None, options: TrainOptions) -> Head:
    return heads.fit(
        pipeline.head_kind(options, dataset),
        features,
        dataset.classes,
        pipeline.head_options(options),
        options.seed,
        multilabel=dataset.multilabel,
        validation=validation if validation and validation.samples else None,
    )


def _cross_validate(pool: Features, views: Features | None, dataset: Dataset, options: TrainOptions) -> CrossValidation:
    """Fit to all folds of `pool` but one and measure on that one, for each.

    The pool is all samples when the test samples were drawn from them, so that every sample is tested once.
    """
    fold = data.folds.assign(pool.samples, options.folds, options.seed)
    scores = []
    for each in range(options.folds):
        inside = pipeline.rows(pool, np.flatnonzero(fold != each))
        kept = {sample.digest for sample in inside.samples}
        if views:
            own = [i for i, sample in enumerate(views.samples) if sample.digest in kept]
            inside = pipeline.together(inside, pipeline.rows(views, np.array(own, np.int64)))
        head = _fit_head(dataset, inside, None, options)
        scores.append(pipeline.score(head, pipeline.rows(pool, np.flatnonzero(fold == each)), dataset)[1])
    accuracies = [score.accuracy for score in scores]
    return CrossValidation(
        folds=options.folds,
        samples=len(pool.samples),
        accuracy_mean=float(np.mean(accuracies)),
        accuracy_std=float(np.std(accuracies, ddof=1)),
        macro_f1_mean=float(np.mean([score.macro_f1 for score in scores])),
        accuracies=tuple(accuracies),
    )


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(work: Path, trained: _Trained, order: _Order, clock: Clock) -> TrainResult:
    with clock.stage("model", "Joining the model"):
        size = _write_model(work, trained)
    result = _document(trained, order, size, clock)
    with clock.stage("report", "Writing the report"):
        _write_report(work, result, trained)
    result = replace(result, seconds=clock.seconds())
    (work / run_folder.RUN_JSON).write_text(documents.to_json(result))
    return result


def _write_model(work: Path, trained: _Trained) -> int:
    dataset, fitted = trained.dataset, trained.fitted
    manifest = pipeline.manifest_of(trained.backbone, dataset, fitted.head, fitted.metrics.accuracy, len(fitted.rows))
    graph = heads.graph(fitted.head, trained.backbone.dimension)
    content, _ = model.build(trained.backbone, graph, manifest, fitted.tested.samples, fitted.rows)
    (work / run_folder.MODEL).write_bytes(content)
    if trained.tuned:
        shutil.copyfile(trained.backbone.path, work / run_folder.BACKBONE)
        shutil.copyfile(trained.tuned.network.keras, work / run_folder.KERAS)
    (work / run_folder.HEAD).write_bytes(run_folder.head_bytes(fitted.head, dataset.classes))
    (work / run_folder.PREDICTIONS).write_bytes(
        run_folder.predictions_csv(fitted.tested.samples, fitted.rows, dataset, fitted.head.thresholds)
    )
    return len(content)


def _write_report(work: Path, result: TrainResult, trained: _Trained) -> None:
    dataset, fitted = trained.dataset, trained.fitted
    mistakes = findings.mistakes(fitted.tested, fitted.rows, dataset, fitted.head.thresholds)
    bins = () if dataset.multilabel else metrics.reliability(fitted.rows, heads.labels(fitted.tested.samples))
    report.write(ReportData(result, mistakes, bins, findings.environment()), work / run_folder.REPORT)


def _document(trained: _Trained, order: _Order, size: int, clock: Clock) -> TrainResult:
    dataset, fitted = trained.dataset, trained.fitted
    head = fitted.head
    return TrainResult(
        schema_version=1,
        tledge_version=__version__,
        created=pipeline.now(),
        run=str(order.out),
        model=str(order.out / run_folder.MODEL),
        bytes=size,
        backbone=trained.backbone.name,
        head=head.kind,
        precision=trained.backbone.precision,
        provider=trained.provider,
        data=str(order.data),
        test_data=str(order.test_data) if order.test_data else None,
        options=asdict(order.options),
        classes=dataset.classes,
        class_counts=findings.class_counts(dataset),
        samples=SampleCounts(len(dataset.train), len(dataset.val), len(dataset.test)),
        cache=trained.cache,
        l2=head.facts.get("l2"),
        l2_path=head.path,
        seconds=clock.seconds(),
        metrics=fitted.metrics,
        val_metrics=fitted.val_metrics,
        fingerprint=dataset.fingerprint,
        skipped=dataset.skipped,
        conflicts=dataset.conflicts,
        warnings=findings.warnings(dataset, trained.backbone.assumed),
        multilabel=dataset.multilabel,
        thresholds=head.thresholds,
        facts=head.facts,
        views=trained.views,
        cross_validation=fitted.cross_validation,
        fine_tuning=trained.tuned.facts if trained.tuned else None,
    )


def _absolute(path: str | Path) -> Path:
    return places.at(path).absolute()
