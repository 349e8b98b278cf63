"""`tledge export`: a run → one model file at the precision asked for, measured against the run's float model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np

from tledge import backbones, heads, model, places, seal
from tledge.commands import pipeline, run_folder
from tledge.commands.clock import Clock, Progress
from tledge.errors import CheckFailed, DataError, TledgeError
from tledge.schema import (
    AccuracyChange,
    Backbone,
    CacheCounts,
    Dataset,
    ExportResult,
    Features,
    LinearHead,
    Metrics,
    Parity,
    Precision,
)

MIN_AGREEMENT = 0.95


def export(
    run: str | Path,
    out: str | Path,
    *,
    precision: Precision = "int8",
    min_agreement: float = MIN_AGREEMENT,
    max_drop: float | None = None,
    provider: str | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> ExportResult:
    """Write the model of the run folder `run` to `out` in `precision`, and say how it compares with the float model.

    For int8 the backbone is quantized first and the head fitted again on what it really produces. `min_agreement` is a
    share of the test pictures, `max_drop` a fall of accuracy in points. Raises CheckFailed when one of them does not
    hold, TledgeError when the run, its pictures or `out` cannot be used; then nothing is written.
    """
    if precision not in get_args(Precision):
        choices = ", ".join(get_args(Precision))
        raise TledgeError(f"Precision '{precision}' is not available yet.", f"Choose one of: {choices}.")
    if not 0 <= min_agreement <= 1:
        raise TledgeError(f"The least agreement must be a share between 0 and 1, got {min_agreement}.")
    clock, out, source = Clock(on_progress), Path(out), Path(run)
    document = run_folder.read_run(source)
    source = source if source.is_dir() else source.parent
    places.check_free(out, force=force)
    options = {**document["options"], **({"provider": provider} if provider else {})}
    dataset, network, features = _reload(document, options, clock)
    before = run_folder.read_head(source)
    exported = _Export(options, dataset, clock)
    expected, scores_before = exported.score(before, features)
    chosen, head = network, before
    if precision == "int8":
        chosen, features, head = exported.quantize(network)
    rows, scores = exported.score(head, features)
    parity = _parity(expected, rows, min_agreement)
    change = AccuracyChange(scores_before.accuracy, scores.accuracy)
    _check(parity, change, min_agreement, max_drop)
    with clock.stage("write", "Writing the model"):
        content, golden = exported.build(chosen, head, features, rows, scores)
        places.write_whole(out, content)
    return ExportResult(
        schema_version=1,
        model=str(out),
        bytes=len(content),
        digest=seal.check_seal(content, str(out)),
        precision=precision,
        accuracy=change,
        parity=parity,
        metrics=scores,
        golden=golden,
        cache=CacheCounts(features.hits, features.misses),
        seconds=clock.seconds(),
    )


class _Export:
    """The steps of one export over the samples of one run."""

    def __init__(self, options: dict[str, Any], dataset: Dataset, clock: Clock) -> None:
        self.options, self.dataset, self.clock = options, dataset, clock

    def quantize(self, network: Backbone) -> tuple[Backbone, Features, LinearHead]:
        cache = places.cache_dir()
        with self.clock.stage("quantize", "Quantizing the backbone"):
            chosen = model.quantize(network, self.dataset.train, cache)
        with self.clock.stage("extract"):
            _, features = pipeline.extract_all(self.dataset, chosen, cache, self.options, self.clock)
        with self.clock.stage("fit", "Fitting the head again"):
            train_part, _, _ = pipeline.split(features, self.dataset)
            head = heads.fit(self.options["head"], train_part, len(self.dataset.classes), self.options["seed"])
        return chosen, features, head

    def score(self, head: LinearHead, features: Features) -> tuple[np.ndarray, Metrics]:
        _, _, tested = pipeline.split(features, self.dataset)
        return pipeline.score(self.options["head"], head, tested, self.dataset.classes)

    def build(self, chosen: Backbone, head: LinearHead, features: Features, rows: np.ndarray, scores: Metrics) -> Any:
        _, _, tested = pipeline.split(features, self.dataset)
        facts = (self.dataset.classes, self.dataset.fingerprint, scores.accuracy, len(rows))
        return model.build(chosen, head, pipeline.manifest_of(chosen, *facts), tested.samples, rows)


def _reload(document: dict[str, Any], options: dict[str, Any], clock: Clock) -> tuple[Dataset, Backbone, Features]:
    """Find the run's very samples again; figures on any others would not be comparable."""
    test_source = Path(document["test_data"]) if document.get("test_data") else None
    with clock.stage("scan", "Reading files"):
        dataset = pipeline.load_data(Path(document["data"]), test_source, options)
    cache = places.cache_dir()
    with clock.stage("backbone"):
        network = backbones.load(options["backbone"], cache, on_stage=lambda words: clock.tell(words, 0, 0))
    with clock.stage("extract"):
        dataset, features = pipeline.extract_all(dataset, network, cache, options, clock)
    if dataset.fingerprint != document["fingerprint"]:
        raise DataError(
            f"The pictures in {document['data']} are not those that the run was trained on.",
            "Put them back as they were, or train again.",
        )
    return dataset, network, features


def _parity(expected: np.ndarray, found: np.ndarray, min_agreement: float) -> Parity:
    agreement = float((expected.argmax(axis=1) == found.argmax(axis=1)).mean())
    difference = np.abs(expected - found)
    return Parity(
        len(expected), agreement, float(difference.max()), float(difference.mean()), passed=agreement >= min_agreement
    )


def _check(parity: Parity, change: AccuracyChange, min_agreement: float, max_drop: float | None) -> None:
    if not parity.passed:
        raise CheckFailed(
            f"The exported model must agree with the float model on {min_agreement:.1%} of the test pictures, "
            f"it agrees on {parity.agreement:.1%} of {parity.samples}; no file was written.",
            "Use '--precision fp32', train on more pictures, or lower --min-agreement.",
        )
    drop = 100 * (change.before - change.after)
    if max_drop is not None and drop > max_drop:
        raise CheckFailed(
            f"Accuracy may drop by {max_drop:g} points at most, it drops by {drop:.2f} ({change.before:.4f} → "
            f"{change.after:.4f}); no file was written.",
            "Use '--precision fp32', train on more pictures, or raise --max-drop.",
        )
