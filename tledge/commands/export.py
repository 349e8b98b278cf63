"""`tledge export`: a run → one model file at the precision asked for, measured against the run's float model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

from tledge import engine, places
from tledge.commands import pipeline, run_folder
from tledge.commands.clock import Clock, Note, Progress
from tledge.commands.exporting import auto, budgets, candidate, mixed, table
from tledge.commands.exporting.candidate import Candidate
from tledge.commands.exporting.steps import AUTO, Original, Steps, reload
from tledge.commands.sizes import in_bytes
from tledge.errors import TledgeError, did_you_mean
from tledge.model import layouts
from tledge.model.precision.thresholds import METHODS
from tledge.schema import Budgets, ExportResult, GraphInput, Packaging, Precision, QuantizeOptions, Target

MIN_AGREEMENT, QUANTIZE, FORM = Budgets().min_agreement, QuantizeOptions(), Packaging()
_LARGEST_BATCH = 1024
FORMATS = (*get_args(Precision), AUTO, "keras")


def export(
    run: str | Path,
    out: str | Path,
    *,
    precision: str = "int8",
    layout: str = "file",
    min_agreement: float = MIN_AGREEMENT,
    max_drop: float | None = None,
    max_error_ratio: float | None = None,
    max_class_drop: float | None = None,
    max_bytes: str | int | None = None,
    max_latency_ms: float | None = None,
    calibration: str = QUANTIZE.calibration,
    per_tensor: bool = QUANTIZE.per_tensor,
    reduce_range: bool | None = QUANTIZE.reduce_range,
    target: Target = FORM.target,
    input: GraphInput = FORM.input,
    batch: int | None = FORM.batch,
    provider: str | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    on_note: Note | None = None,
) -> ExportResult:
    """Write the model of the run folder `run` to `out` in `precision`, and say how it compares with the float model.

    For int8 the backbone is quantized first, as `calibration`, `per_tensor` and `reduce_range` say (QuantizeOptions),
    and the head fitted again, to what it really produces too, where that is the better one on samples that neither was
    fitted to. Where it breaks a bound on accuracy, the fewest layers that mend it go back to float. fp16 keeps the
    head, and in float32 what float16 could not hold. auto builds and measures them all here, and takes the fastest that
    keeps the budgets. keras writes the float model as a .keras file, for networks that Keras builds. `target`, `input`
    and `batch` give the file its form (Packaging). A `layout` other than file makes `out` a folder: triton a model
    repository, onnxruntime-web one for a web server.

    `min_agreement` and all of `max_…` are the bounds of Budgets, judged on the run's test samples and this machine.
    Raises CheckFailed, with a Comparison, when one of them does not hold, TledgeError when the run, its samples or
    `out` cannot be used; then nothing is written.
    """
    quantizing = QuantizeOptions(calibration, per_tensor, reduce_range)
    most_bytes = None if max_bytes is None else in_bytes(max_bytes)
    limits = Budgets(min_agreement, max_drop, max_error_ratio, max_class_drop, most_bytes, max_latency_ms)
    packaging = Packaging(target, input, batch)
    _check_request(precision, layout, quantizing, limits)
    _check_form(packaging, precision, layout)
    budgets.check_asked(limits)
    clock, out, source = Clock(on_progress, on_note), places.at(out), places.at(run)
    if input == "image" and target in ("tensorrt", "jetson"):
        clock.note("TensorRT does not resize with antialiasing: onnxruntime runs that step outside of it.")
    document = run_folder.read_run(source)
    folder = source if places.is_folder(source) else source.parent
    name = layouts.model_name(folder)
    layouts.check_free(out, layout, name, force=force)
    options = run_folder.options_of(document)
    options = replace(options, provider=provider or options.provider)
    engine.check(options.provider)
    pipeline.require("onnx")
    steps, original = reload(document, folder, options, limits, packaging, clock)
    if precision == AUTO:
        made = auto.choose(steps, original, quantizing)
    elif precision == "keras":
        made = candidate.keras(steps, original, document, folder)
    else:
        made = _asked(precision, steps, original, quantizing)
    budgets.check(made.comparison, limits)
    with clock.stage("write", "Writing the model"):
        written = layouts.write(out, layout, name, made.content, force=force)
    result = _document(made, str(written), str(out), layout, packaging, clock.seconds())
    result = replace(result, kind=steps.dataset.train[0].kind)
    table.into_report(folder / run_folder.REPORT, precision, result, clock.note)
    return result


def _asked(precision: str, steps: Steps, original: Original, quantizing: QuantizeOptions) -> Candidate:
    if precision == "int8":
        made = mixed.choose(steps, original, quantizing)
    else:
        made = {"fp32": candidate.fp32, "fp16": candidate.fp16}[precision](steps, original)
    return made if steps.limits.max_latency_ms is None else auto.with_latencies([made], steps)[0]


def _document(
    made: Candidate, model: str, out: str, layout: str, packaging: Packaging, seconds: dict[str, float]
) -> ExportResult:
    found = made.comparison
    return ExportResult(
        schema_version=1,
        model=model,
        bytes=found.bytes,
        digest=made.digest,
        precision=made.precision,
        accuracy=found.accuracy,
        errors=found.errors,
        classes=found.classes,
        parity=found.parity,
        metrics=made.metrics,
        golden=made.golden,
        cache=made.cache,
        seconds=seconds,
        layout=layout,
        out=out,
        float_nodes=made.float_nodes,
        float_layers=made.float_layers,
        head_choice=made.head_choice,
        quantization=made.quantization,
        p50_ms=found.p50_ms,
        candidates=found.candidates or (table.row(made.precision, found, chosen=True),),
        created=pipeline.now(),
        target=packaging.target,
        input=packaging.input,
        batch=packaging.batch,
        input_parity=found.input_parity,
    )


def _check_request(precision: str, layout: str, quantizing: QuantizeOptions, limits: Budgets) -> None:
    for kind, word, known in (("precision", precision, FORMATS), ("layout", layout, layouts.LAYOUTS)):
        if word not in known:
            raise TledgeError(f"There is no {kind} called '{word}'.", did_you_mean(word, known))
    if precision == "keras" and layout != "file":
        raise TledgeError(f"The layout {layout} is for an ONNX file, not for a Keras model.", "Use --precision fp32.")
    if precision == "keras" and limits.max_latency_ms is not None:
        raise TledgeError("The latency of a Keras model is not measured.", "Leave --max-latency-ms away.")
    method = quantizing.calibration
    if method not in (*METHODS, AUTO):
        raise TledgeError(f"There is no calibration method called '{method}'.", did_you_mean(method, (*METHODS, AUTO)))
    if precision not in ("int8", AUTO) and quantizing != QUANTIZE:
        raise TledgeError(
            f"Calibration, per-tensor scales and reduced ranges are for int8, got precision '{precision}'.",
            "Use '--precision int8', or leave them away.",
        )


def _check_form(packaging: Packaging, precision: str, layout: str) -> None:
    words = (("target", packaging.target, get_args(Target)), ("input", packaging.input, get_args(GraphInput)))
    for kind, word, known in words:
        if word not in known:
            raise TledgeError(f"There is no {kind} called '{word}'.", did_you_mean(word, known))
    batch = packaging.batch
    if batch is not None and not 1 <= batch <= _LARGEST_BATCH:
        raise TledgeError(
            f"A fixed batch must be 1 to {_LARGEST_BATCH} samples, got {batch}.", "Leave --batch away for any number."
        )
    if packaging.input == "image" and batch not in (None, 1):
        raise TledgeError(
            f"Pictures of any size go through the graph one by one, so a fixed batch must be 1, got {batch}.",
            "Use '--input tensor', or leave --batch away.",
        )
    if layout == "onnxruntime-web" and packaging.input == "image":
        raise TledgeError("The page for browsers resizes pictures itself.", "Use '--input tensor'.")
    if precision == "keras" and packaging != FORM:
        raise TledgeError("Target, input and batch are for ONNX files, not for a Keras model.", "Leave them away.")
