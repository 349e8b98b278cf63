"""The run folder, as the last step of training: model, head, predictions, report, and run.json."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tledge import __version__, documents, heads, machine, model, report
from tledge.commands import findings, pipeline, run_folder
from tledge.commands.clock import Clock
from tledge.commands.finetuning import TunedRun
from tledge.commands.fitting import Fitted
from tledge.heads import metrics
from tledge.schema import (
    Backbone,
    CacheCounts,
    Dataset,
    ReliabilityBin,
    ReportData,
    SampleCounts,
    TrainOptions,
    TrainResult,
)


@dataclass(frozen=True)
class Order:
    """What was asked for; paths are absolute but for `out`, which is told as it was given."""

    data: Path
    test_data: Path | None
    out: Path
    options: TrainOptions
    force: bool


@dataclass(frozen=True)
class Trained:
    """What has come of a run, on its way into the run folder."""

    dataset: Dataset
    backbone: Backbone
    provider: str
    cache: CacheCounts
    fitted: Fitted
    views: int
    tuned: TunedRun | None = None


def write(work: Path, trained: Trained, order: Order, clock: Clock) -> TrainResult:
    """Write all files of the run into the folder `work`, which becomes `order.out`; return what run.json says."""
    with clock.stage("model", "Joining the model"):
        size = _write_model(work, trained)
    result = _document(trained, order, size, clock)
    with clock.stage("report", "Writing the report"):
        _write_report(work, result, trained)
    result = replace(result, seconds=clock.seconds())
    (work / run_folder.RUN_JSON).write_text(documents.to_json(result))
    return result


def _write_model(work: Path, trained: Trained) -> int:
    dataset, fitted = trained.dataset, trained.fitted
    whole_rows, wholes = pipeline.wholes(fitted.rows, fitted.tested.samples)
    manifest = pipeline.manifest_of(trained.backbone, dataset, fitted.head, fitted.metrics.accuracy, len(wholes))
    graph = heads.graph(fitted.head, trained.backbone.dimension)
    content, _ = model.build(trained.backbone, graph, manifest, fitted.tested.samples, fitted.rows)
    (work / run_folder.MODEL).write_bytes(content)
    if trained.tuned:
        shutil.copyfile(trained.backbone.path, work / run_folder.BACKBONE)
        shutil.copyfile(trained.tuned.network.keras, work / run_folder.KERAS)
    (work / run_folder.HEAD).write_bytes(run_folder.head_bytes(fitted.head, dataset.classes))
    (work / run_folder.PREDICTIONS).write_bytes(
        run_folder.predictions_csv(wholes, whole_rows, dataset, fitted.head.thresholds)
    )
    return len(content)


def _write_report(work: Path, result: TrainResult, trained: Trained) -> None:
    dataset, fitted = trained.dataset, trained.fitted
    mistakes = findings.mistakes(fitted.tested, fitted.rows, dataset, fitted.head.thresholds)
    bins = () if dataset.multilabel else _reliability(fitted)
    report.write(ReportData(result, mistakes, bins, findings.environment()), work / run_folder.REPORT)


def _document(trained: Trained, order: Order, size: int, clock: Clock) -> TrainResult:
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
        samples=SampleCounts(*map(pipeline.count_wholes, (dataset.train, dataset.val, dataset.test))),
        cache=trained.cache,
        l2=head.facts.get("l2"),
        l2_path=head.path,
        seconds=clock.seconds(),
        metrics=fitted.metrics,
        val_metrics=fitted.val_metrics,
        fingerprint=dataset.fingerprint,
        skipped=dataset.skipped,
        conflicts=dataset.conflicts,
        remarks=dataset.remarks,
        warnings=findings.warnings(dataset, trained.backbone.assumed),
        multilabel=dataset.multilabel,
        thresholds=head.thresholds,
        facts=head.facts,
        views=trained.views,
        threads=machine.cores(),
        kind=dataset.train[0].kind,
        cross_validation=fitted.cross_validation,
        fine_tuning=trained.tuned.facts if trained.tuned else None,
    )


def _reliability(fitted: Fitted) -> tuple[ReliabilityBin, ...]:
    rows, samples = pipeline.wholes(fitted.rows, fitted.tested.samples)
    return metrics.reliability(rows, heads.labels(samples), fitted.head.thresholds)
