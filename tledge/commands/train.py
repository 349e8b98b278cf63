"""`tledge train`: a folder of labelled pictures → a run folder with a model in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tledge import __version__, backbones, documents, engine, heads, machine, model, places, report
from tledge.commands import pipeline, run_folder
from tledge.commands.clock import Clock, Progress
from tledge.errors import TledgeError
from tledge.heads import metrics
from tledge.schema import (
    Backbone,
    CacheCounts,
    Dataset,
    Features,
    LinearHead,
    Metrics,
    Mistake,
    ReportData,
    SampleCounts,
    TrainResult,
)

DEFAULT_BACKBONE = "efficientnet_lite0"
_MOST_MISTAKES = 24
_IMBALANCE = 3


def train(
    data: str | Path,
    out: str | Path,
    *,
    backbone: str = DEFAULT_BACKBONE,
    head: str = "linear",
    test_data: str | Path | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    strict: bool = False,
    provider: str = "auto",
    force: bool = False,
    on_progress: Progress | None = None,
) -> TrainResult:
    """Train a head on the pictures in `data` and write the run folder `out`.

    Without `test_data` or a `test/` folder, `test_fraction` of the pictures is held out, by content and `seed`. Raises
    TledgeError for unusable data, an unknown backbone or head, or an `out` that is taken and not forced; then nothing
    is written, and a run that stood there stays.
    """
    options = {
        "backbone": backbone,
        "head": head,
        "test_fraction": float(test_fraction),
        "seed": int(seed),
        "strict": strict,
        "provider": provider,
    }
    order = _Order(_absolute(data), _absolute(test_data) if test_data else None, places.at(out), options, force)
    _check(order)
    return _train(order, Clock(on_progress))


def replay(config: str | Path) -> dict[str, Any]:
    """Return the arguments of `train`, all but `out`, that made the run of a run folder (or its run.json)."""
    run = run_folder.read_run(places.at(config))
    return {"data": run["data"], "test_data": run["test_data"], **run["options"]}


@dataclass(frozen=True)
class _Order:
    """What was asked for; paths are absolute but for `out`, which is told as it was given."""

    data: Path
    test_data: Path | None
    out: Path
    options: dict[str, Any]
    force: bool


@dataclass(frozen=True)
class _Trained:
    """What has come of a run, on its way into the run folder."""

    dataset: Dataset
    backbone: Backbone
    provider: str
    cache: CacheCounts
    head: LinearHead
    tested: Features
    rows: np.ndarray
    metrics: Metrics
    val_metrics: Metrics | None


def _check(order: _Order) -> None:
    """Refuse now what would fail after minutes of work."""
    fraction = order.options["test_fraction"]
    if not 0 < fraction < 1:
        raise TledgeError(f"The held-out share must lie between 0 and 1, got {fraction:g}.", "Use 0.2, for instance.")
    heads.check_name(order.options["head"])
    backbones.check_name(order.options["backbone"])
    engine.check(order.options["provider"])
    pipeline.require("onnx", "threadpoolctl", "jinja2", "pygal")
    for source in filter(None, (order.data, order.test_data)):
        places.check_apart(order.out, source)
    places.check_free_folder(order.out, force=order.force, files=run_folder.FILES)


def _train(order: _Order, clock: Clock) -> TrainResult:
    cache = places.cache_dir()
    with clock.stage("scan", "Reading files"):
        dataset = pipeline.load_data(order.data, order.test_data, order.options)
    with clock.stage("backbone"):
        backbone = backbones.load(order.options["backbone"], cache, on_stage=lambda words: clock.tell(words, 0, 0))
    with clock.stage("extract"):
        provider = engine.resolve(order.options["provider"], backbone.path)
        dataset, features = pipeline.extract_all(
            dataset, backbone, cache, clock, provider=provider, strict=order.options["strict"]
        )
    with clock.stage("fit", "Fitting the head"):
        trained = _fit(dataset, backbone, provider, features, order.options)
    with places.whole_folder(order.out, force=order.force) as work:
        return _write(work, trained, order, clock)


def _write(work: Path, trained: _Trained, order: _Order, clock: Clock) -> TrainResult:
    with clock.stage("model", "Joining the model"):
        size = _write_model(work, trained)
    result = _document(trained, order, size, clock)
    with clock.stage("report", "Writing the report"):
        _write_report(work, result, trained)
    result = replace(result, seconds=clock.seconds())
    (work / run_folder.RUN_JSON).write_text(documents.to_json(result))
    return result


def _fit(dataset: Dataset, backbone: Backbone, provider: str, features: Features, options: dict[str, Any]) -> _Trained:
    head, classes = options["head"], dataset.classes
    train_part, val_part, tested = pipeline.split(features, dataset)
    fitted = heads.fit(head, train_part, len(classes), options["seed"])
    rows, scores = pipeline.score(head, fitted, tested, classes)
    val_scores = pipeline.score(head, fitted, val_part, classes)[1] if val_part.samples else None
    counts = CacheCounts(features.hits, features.misses)
    return _Trained(dataset, backbone, provider, counts, fitted, tested, rows, scores, val_scores)


def _write_model(work: Path, trained: _Trained) -> int:
    dataset, rows = trained.dataset, trained.rows
    facts = (dataset.classes, dataset.fingerprint, trained.metrics.accuracy, len(rows))
    manifest = pipeline.manifest_of(trained.backbone, *facts)
    content, _ = model.build(trained.backbone, trained.head, manifest, trained.tested.samples, rows)
    (work / run_folder.MODEL).write_bytes(content)
    (work / run_folder.HEAD).write_bytes(run_folder.head_bytes(trained.head, dataset.classes))
    (work / run_folder.PREDICTIONS).write_bytes(
        run_folder.predictions_csv(trained.tested.samples, rows, dataset.classes)
    )
    return len(content)


def _write_report(work: Path, result: TrainResult, trained: _Trained) -> None:
    truth = heads.labels(trained.tested.samples)
    mistakes = _mistakes(trained.tested, trained.rows, result.classes)
    page = ReportData(result, mistakes, metrics.reliability(trained.rows, truth), _environment())
    report.write(page, work / run_folder.REPORT)


def _document(trained: _Trained, order: _Order, size: int, clock: Clock) -> TrainResult:
    dataset = trained.dataset
    return TrainResult(
        schema_version=1,
        tledge_version=__version__,
        created=pipeline.now(),
        run=str(order.out),
        model=str(order.out / run_folder.MODEL),
        bytes=size,
        backbone=trained.backbone.name,
        head=order.options["head"],
        precision=trained.backbone.precision,
        provider=trained.provider,
        data=str(order.data),
        test_data=str(order.test_data) if order.test_data else None,
        options=order.options,
        classes=dataset.classes,
        class_counts=_class_counts(dataset),
        samples=SampleCounts(len(dataset.train), len(dataset.val), len(dataset.test)),
        cache=trained.cache,
        l2=trained.head.l2,
        l2_path=trained.head.path,
        seconds=clock.seconds(),
        metrics=trained.metrics,
        val_metrics=trained.val_metrics,
        fingerprint=dataset.fingerprint,
        skipped=dataset.skipped,
        conflicts=dataset.conflicts,
        warnings=_warnings(dataset),
    )


def _absolute(path: str | Path) -> Path:
    return places.at(path).absolute()


def _class_counts(dataset: Dataset) -> dict[str, int]:
    counts = Counter(sample.label for part in (dataset.train, dataset.val, dataset.test) for sample in part)
    return {name: counts[label] for label, name in enumerate(dataset.classes)}


def _warnings(dataset: Dataset) -> tuple[str, ...]:
    counts = _class_counts(dataset)
    most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    found = []
    if counts[most] > _IMBALANCE * counts[fewest]:
        found.append(f"Classes are unbalanced: '{most}' has {counts[most]} pictures, '{fewest}' has {counts[fewest]}.")
    if dataset.skipped:
        found.append(f"Files that were left out: {len(dataset.skipped)}.")
    if dataset.conflicts:
        found.append(f"Pictures under two labels, or both trained and tested on: {len(dataset.conflicts)}.")
    return tuple(found)


def _mistakes(tested: Features, rows: np.ndarray, classes: tuple[str, ...]) -> tuple[Mistake, ...]:
    predicted, truth = rows.argmax(axis=1), heads.labels(tested.samples)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-rows[wrong, predicted[wrong]], kind="stable")][:_MOST_MISTAKES]
    return tuple(
        Mistake(tested.samples[i].path, classes[truth[i]], classes[predicted[i]], float(rows[i, predicted[i]]))
        for i in worst
    )


def _environment() -> dict[str, str]:
    facts = machine.describe()
    return {
        "CPU": str(facts["cpu"]),
        "Cores": str(facts["cores"]),
        "Memory": f"{int(facts['memory_bytes']) / 2**30:.1f} GiB",
        "System": str(facts["system"]),
        "Python": str(facts["python"]),
        "onnxruntime": str(engine.installed()["version"]),
        "numpy": np.__version__,
    }
