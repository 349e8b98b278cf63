"""Documents for people: tables, where the result is, how big, how long it took, and what to type next."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tledge import schema
from tledge.cli.tables import elsewhere as _elsewhere
from tledge.cli.tables import line as _line
from tledge.cli.tables import quoted as _quoted
from tledge.cli.tables import size as _size
from tledge.cli.tables import table as _table
from tledge.modalities import READERS

if TYPE_CHECKING:
    from tledge.schema import (
        BackbonesResult,
        CacheResult,
        CandidateFigures,
        CompareResult,
        Comparison,
        DoctorResult,
        EvaluateResult,
        ExportResult,
        Metrics,
        Prediction,
        PredictResult,
        Problem,
        Quantization,
        SignResult,
        TrainResult,
        VerifyResult,
    )

_MOST_LISTED = 20
_WORST_CLASSES = 3
_OUTCOMES = {
    "same": "same: every probability as in the file, bit for bit",
    "within_tolerance": "within tolerance: same decisions, other last digits",
    "different": "different",
}


def train(result: TrainResult, console: Any) -> None:
    """Show what a run trained and how good it is."""
    counts, seconds = result.samples, result.seconds
    val = f", {counts.val} val" if counts.val else ""
    _line(
        console,
        f"{result.backbone} + {result.head}: {counts.train} samples to train on{_views(result)}{val}, "
        f"{counts.test} to test on",
    )
    _metrics(console, result.metrics)
    if result.cross_validation:
        folds = result.cross_validation
        _line(
            console,
            f"{folds.folds} folds of {folds.samples} samples: accuracy {folds.accuracy_mean:.4f} ± "
            f"{folds.accuracy_std:.4f}, macro f1 {folds.macro_f1_mean:.4f}",
        )
    if result.fine_tuning:
        tuned = result.fine_tuning
        _line(console, f"Fine-tuned from {tuned.layer} up, {tuned.epochs} epochs in {tuned.seconds:.0f} s")
    for warning in result.warnings:
        _line(console, f"note: {warning}")
    _problems(console, result.skipped, "Left out")
    _problems(console, (*result.conflicts, *result.remarks), "Deserves a look")
    extracted = f"{result.cache.misses} samples extracted, {result.cache.hits} from the cache"
    _line(
        console, f"{extracted}; {seconds['total']:.1f} s (extract {seconds['extract']:.1f}, fit {seconds['fit']:.1f})"
    )
    _line(console, f"Model:  {result.model} ({_size(result.bytes)})")
    _line(console, f"Report: {result.run}/report.html")
    _line(console, f"Next:   tledge export {_quoted(result.run)} --precision int8 --out model.onnx")


def _views(result: TrainResult) -> str:
    return f" and {result.views} views of them" if result.views else ""


def compare(result: CompareResult, console: Any) -> None:
    """Show the backbones of a comparison, the fastest first; a star marks the Pareto front."""
    rows = [
        (
            each.backbone,
            f"{each.accuracy:.4f}",
            f"{each.macro_f1:.4f}",
            f"{each.p50_ms:.2f} ms",
            _size(each.bytes),
            f"{each.seconds:.1f} s",
            "*" if each.pareto else "",
        )
        for each in result.backbones
    ]
    _table(console, ("backbone", "accuracy", "macro f1", "p50", "size", "trained in", "best"), rows)
    _line(console, "* none of the others is both at least as accurate and as fast.")
    best = max(result.backbones, key=lambda each: each.accuracy)
    _line(console, f"Next: tledge export {_quoted(best.run)} --precision int8 --out model.onnx")


def export(result: ExportResult, console: Any) -> None:
    """Show how the exported model compares with the float model, where it is, and what to type next."""
    comparison(result, console)
    if result.quantization:
        _quantization(result.quantization, console)
    choice = result.head_choice
    if choice and choice.samples:
        figures = f"{choice.accuracy_refitted:.4f} refitted, {choice.accuracy_original:.4f} original"
        _line(console, f"Head: {choice.kept} ({figures}, on {choice.samples} samples of {choice.judged_on})")
    if result.float_nodes:
        _line(console, f"In float32, as their values get large: {', '.join(result.float_nodes[:_MOST_LISTED])}")
    if result.float_layers:
        _line(console, f"In float32, to keep the budgets: {', '.join(result.float_layers[:_MOST_LISTED])}")
    _line(console, f"Model: {result.model} ({_size(result.bytes)}, {result.seconds['total']:.1f} s)")
    if result.layout != "file":
        _line(console, f"Folder for {result.layout}: {result.out}")
    if result.precision == "keras":
        _line(console, f"Next:  keras.saving.load_model({result.model!r})")
        return
    _line(console, f"Next:  tledge predict {_quoted(result.model)} {READERS[result.kind].example}")
    _line(console, f"       tledge bench {_quoted(result.model)}")


def _quantization(found: Quantization, console: Any) -> None:
    if found.errors:
        rows = [(each.method + (", equalised" if each.equalised else ""), f"{each.error:.3g}") for each in found.errors]
        _table(console, ("calibration", "relative squared error of features"), rows)
    counts = Counter(each.operator for each in found.float_nodes if not each.asked)  # the others are named below
    if counts:
        said = ", ".join(f"{count} {operator}" for operator, count in counts.most_common())
        _line(console, f"In float for want of an int8 kernel: {said}")


def comparison(result: Comparison | ExportResult, console: Any) -> None:
    """Show how an exported model compares with the float model; of a failed check, which classes lost the most."""
    change, errors, parity = result.accuracy, result.errors, result.parity
    ratio = "none before" if errors.ratio is None else f"{errors.ratio:.2f} times as many"
    rows = [
        ("accuracy", f"{change.before:.4f} → {change.after:.4f} ({100 * (change.after - change.before):+.2f} points)"),
        ("errors", f"{errors.before} → {errors.after} ({ratio})"),
        ("agreement", f"{parity.agreement:.2%} of {parity.samples} test samples"),
        ("probabilities", f"differ by {parity.mean_abs_diff:.4f} on average, {parity.max_abs_diff:.4f} at most"),
    ]
    if isinstance(result, schema.Comparison):
        rows += [
            (
                f"recall of {each.name}",
                f"{each.recall_before:.4f} → {each.recall_after:.4f} ({0 - each.drop:+.2f} points)",
            )
            for each in result.classes[:_WORST_CLASSES]
        ]
    if result.input_parity is not None:
        resized = result.input_parity
        differ = (
            f"pixels differ by {resized.pixel_mean_abs_diff:.3f} grey levels, {resized.pixel_max_abs_diff:g} at most"
        )
        rows.append(("resized in the graph", f"{resized.agreement:.2%} decided alike, {differ}"))
    if result.p50_ms is not None:
        rows.append(("p50 of one sample", f"{result.p50_ms:.2f} ms"))
    _table(console, (f"{result.precision} against float", ""), rows)
    if len(result.candidates) > 1:
        _candidates(result.candidates, console)


def _candidates(candidates: tuple[CandidateFigures, ...], console: Any) -> None:
    rows = [
        (
            _precision(each),
            _size(each.bytes),
            "" if each.p50_ms is None else f"{each.p50_ms:.2f} ms",
            f"{each.accuracy:.4f} ({0 - each.drop:+.2f})",
            "none before" if each.error_ratio is None else f"{each.error_ratio:.2f}",
            f"{0 - each.worst_class_drop:+.2f} ({each.worst_class})",
            f"{each.agreement:.2%}",
            "chosen" if each.chosen else each.reason,
        )
        for each in candidates
    ]
    titles = ("candidate", "size", "p50", "accuracy, points", "errors ×", "worst class, points", "agreement", "")
    _table(console, titles, rows)


def _precision(each: CandidateFigures) -> str:
    return f"{each.precision}, {each.float_layers} layers float" if each.float_layers else each.precision


def evaluate(result: EvaluateResult, console: Any) -> None:
    """Show the metrics of a model file on labelled samples."""
    _line(
        console, f"{result.model} ({result.precision}, {result.provider}) on {result.samples} samples of {result.data}"
    )
    _metrics(console, result.metrics)
    _problems(console, result.skipped, "Left out")
    _line(console, f"{result.seconds:.1f} s")


def predict(result: PredictResult, console: Any) -> None:
    """Show one line per sample."""
    rows = [(p.path, _decided(p), f"{p.probability:.1%}") for p in result.predictions]
    if rows:
        _table(console, ("sample", "label", "probability"), rows)
    _problems(console, result.skipped, "Not read")


def _decided(prediction: Prediction) -> str:
    return " ".join(prediction.labels) or "(none)"


def sign(result: SignResult, console: Any) -> None:
    """Show where the signature is."""
    _line(console, f"Signature: {result.signature} ({_size(result.bytes)})")
    where = "" if result.signature == f"{result.model}.sig" else f" --signature {_quoted(result.signature)}"
    _line(console, f"Next:      tledge verify {_quoted(result.model)} --key PUBLIC.pem{where}")


def verify(result: VerifyResult, console: Any) -> None:
    """Show whether this machine computes what the exporting machine did."""
    golden = result.golden
    rows = [
        ("outcome", _OUTCOMES[result.outcome]),
        ("digest", f"{result.digest[:16]}… (unchanged)"),
        ("signature", _signature(result)),
        ("golden samples", f"{golden.samples}, {golden.flips} decided otherwise"),
        ("largest difference", f"{golden.max_abs_diff:.2g} (allowed: {golden.tolerance:g})"),
        (
            "model",
            f"{result.backbone} {result.precision}, {len(result.classes)} classes, accuracy {result.accuracy:.4f}",
        ),
        ("run on", f"{result.provider} {' '.join(result.instruction_sets)}"),
    ]
    _table(console, (result.model, ""), rows)
    _elsewhere(console, result)
    _line(console, f"This machine computes {'what it should' if result.passed else 'something else'}.")


def _signature(result: VerifyResult) -> str:
    if result.signature == "valid":
        return f"{result.signature_file} (valid)"
    if result.signature == "unchecked":
        return f"{result.signature_file} (not checked: name the public key with --key)"
    return "none"


def backbones(result: BackbonesResult, console: Any) -> None:
    """Show the networks that can be trained on."""
    rows = [
        (
            b.name,
            b.kind,
            f"{b.parameters / 1e6:.1f} M",
            f"{b.input_size} {READERS[b.kind].unit}",
            f"{b.macs / 1e6:,.0f} M" if b.macs else "",
            str(b.dimension),
            b.licence,
            "here" if b.weights_available else b.weights_hint,
        )
        for b in result.backbones
    ]
    _table(console, ("backbone", "for", "parameters", "input", "macs", "features", "licence", "weights"), rows)


def cache(result: CacheResult, console: Any) -> None:
    """Show what the cache holds."""
    rows = [(space.label, str(space.rows), _size(space.bytes)) for space in result.spaces]
    rows.append(("converted backbones", str(result.backbones), _size(result.backbone_bytes)))
    if result.engines:
        rows.append(("TensorRT engines", str(result.engines), _size(result.engine_bytes)))
    _table(console, ("kept", "number", "size"), rows)
    if result.checked or result.dropped or result.dropped_files:
        files = f", and {result.dropped_files} graphs or engines" if result.dropped_files else ""
        freed = f" ({_size(result.dropped_bytes)} freed)" if result.dropped_bytes else ""
        _line(console, f"{result.checked} checked, {result.dropped} dropped{files}{freed}")
    _line(console, f"{result.folder}: {_size(result.bytes)} on disk")


def doctor(result: DoctorResult, console: Any) -> None:
    """Show what is installed, and what to mend."""
    runtime, machine = result.onnxruntime, result.machine
    rows = [
        ("tledge", result.tledge_version),
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['instruction_sets'])}"),
        ("python", machine["python"]),
        ("onnxruntime", f"{runtime['version'] or 'missing'} (providers: {', '.join(runtime['providers']) or 'none'})"),
        ("kernels", ", ".join(f"{name}: {variant}" for name, variant in result.kernels.items())),
        ("CUDA kernels", result.gpu or "none (no GPU, or built without TLEDGE_CUDA)"),
        ("cache", f"{result.cache_dir} ({_size(result.cache_free_bytes)} free)"),
        *((name, version or "not installed") for name, version in result.packages.items()),
    ]
    _table(console, ("", ""), rows)
    for problem in result.problems:
        _line(console, f"problem: {problem}")
    _line(console, "Everything is in order." if result.passed else f"{len(result.problems)} to mend.")


def _metrics(console: Any, metrics: Metrics) -> None:
    rows = [(c.name, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", str(c.support)) for c in metrics.per_class]
    _table(console, ("class", "precision", "recall", "f1", "samples"), rows)
    figures = {
        "accuracy": metrics.accuracy,
        "macro f1": metrics.macro_f1,
        "macro recall": metrics.macro_recall,
        "roc auc": metrics.roc_auc,
        "mean average precision": metrics.mean_average_precision,
        "calibration error": metrics.expected_calibration_error,
    }
    _line(console, "   ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None))


def _problems(console: Any, problems: tuple[Problem, ...], title: str) -> None:
    for problem in problems[:_MOST_LISTED]:
        _line(console, f"{title}: {problem.path}: {problem.reason}")
    if len(problems) > _MOST_LISTED:
        _line(console, f"{title}: {len(problems) - _MOST_LISTED} more; all of them are in the JSON document.")
