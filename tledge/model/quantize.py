"""Backbone → int8 backbone: static, explicit QDQ, weights per channel, activations calibrated on training pictures.

onnxruntime's own quantizer does the work. Activations are uint8 (asymmetric), weights int8 per output channel
(symmetric), which is the form its CPU kernels fuse and VNNI hardware runs without saturation.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from tledge import engine, preprocess
from tledge.backbones import kept_files
from tledge.data.opening import opened
from tledge.errors import DataError, MissingExtra
from tledge.model import pixel_input
from tledge.model.bias_correction import correct_biases
from tledge.places import writing
from tledge.schema import Backbone, Sample

CALIBRATION_IMAGES = 128
_REVISION = 3
_BATCH = 8
# Clip and Relu vanish into the range of what feeds them. Averages stay float: an 8-bit mean of 8-bit values would throw
# away what averaging gains.
_QUANTIZED_OPS = ["Conv", "Gemm", "MatMul", "Add", "Clip", "Relu", "MaxPool", "Concat"]


def quantize(backbone: Backbone, samples: Sequence[Sample], cache_dir: Path) -> Backbone:
    """Return `backbone` in int8, calibrated on up to 128 of the training `samples`, spread evenly over their digests.

    The graph is kept in `cache_dir`/backbones under the digests of the float graph and of the pictures; a kept file
    that was damaged is made again. Files that cannot be decoded are passed over; raises DataError when none can,
    MissingExtra without onnx, OutputError when there is no room.
    """
    chosen = _spread(sorted(samples, key=lambda sample: sample.digest), CALIBRATION_IMAGES)
    folder, stem = cache_dir / "backbones", f"{backbone.name}-int8-{_key(backbone, chosen)}"
    kept = kept_files.find(folder, stem) or kept_files.keep(folder, stem, _quantized(backbone, chosen))
    return replace(backbone, path=kept.path, digest=kept.digest, precision="int8")


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    if len(samples) <= count:
        return list(samples)
    return [samples[i * len(samples) // count] for i in range(count)]


def _key(backbone: Backbone, samples: Sequence[Sample]) -> str:
    spec = backbone.preprocess
    decides = [_REVISION, backbone.digest, asdict(spec), preprocess.REVISION, [sample.digest for sample in samples]]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def _quantized(backbone: Backbone, samples: Sequence[Sample]) -> bytes:
    engine.check("cpu")  # must be the first to load onnxruntime, with its settings
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error

    model = onnx.shape_inference.infer_shapes(onnx.load(backbone.path))
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as folder, _quiet_root_logger():
        source, result = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        correct_biases(model, _batches(samples, backbone))
        onnx.save(model, source)
        pixels = pixel_input.overrides(model, backbone.preprocess)
        quantize_static(
            source,
            result,
            _CalibrationReader(samples, backbone),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED_OPS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": pixels},
        )
        quantized = onnx.load(result)
    if pixels:
        pixel_input.use_pixels(quantized)
    onnx.checker.check_model(quantized)
    return quantized.SerializeToString(deterministic=True)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep onnxruntime's quantizer from advising the user, through the root logger, on steps already taken."""
    root = logging.getLogger()
    handlers = list(root.handlers)  # a first word through the root logger would give it one

    def silence(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING

    root.addFilter(silence)
    try:
        yield
    finally:
        root.removeFilter(silence)
        root.handlers[:] = handlers


class _CalibrationReader:
    """Feeds onnxruntime's calibrator with batches of preprocessed pictures."""

    def __init__(self, samples: Sequence[Sample], backbone: Backbone) -> None:
        self._batches = _batches(samples, backbone)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _batches(samples: Sequence[Sample], backbone: Backbone) -> Iterator[dict[str, np.ndarray]]:
    spec, found = backbone.preprocess, 0
    for start in range(0, len(samples), _BATCH):
        rows = []
        for sample in samples[start : start + _BATCH]:
            (row,) = preprocess.empty(1, spec)
            try:
                preprocess.load_into(opened(sample), spec, row)
            except DataError:
                continue
            rows.append(row)
        if rows:
            found += len(rows)
            yield {spec.kind: np.stack(rows)}
    if not found:
        raise DataError(
            "Calibration needs at least one readable training sample, found none.", "Check the data folder."
        )
