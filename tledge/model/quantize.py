"""Backbone → int8 backbone: static, explicit QDQ, weights per channel, activations calibrated on training pictures.

onnxruntime's own quantizer does the rounding, with the ranges of `calibrate.py`. Activations are uint8 (asymmetric),
weights int8 per output channel (symmetric), which is the form its CPU kernels fuse and VNNI hardware runs without
saturation.
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
from typing import Any

import numpy as np

from tledge import engine, preprocess
from tledge.backbones import kept_files
from tledge.errors import MissingExtra
from tledge.model import bias_correction, calibration_pictures, pixel_input
from tledge.model.calibrate import calibrate, choose_ranges
from tledge.model.thresholds import Range
from tledge.places import writing
from tledge.schema import Backbone, Sample

_REVISION = 4
# Clip and Relu vanish into the range of what feeds them. Averages stay float: an 8-bit mean of 8-bit values would throw
# away what averaging gains.
_QUANTIZED_OPS = ["Conv", "Gemm", "MatMul", "Add", "Clip", "Relu", "MaxPool", "Concat"]


def quantize(backbone: Backbone, samples: Sequence[Sample], cache_dir: Path, method: str = "minmax") -> Backbone:
    """Return `backbone` in int8, calibrated on up to 128 of the training `samples`, spread evenly over their digests.

    `method` is how the range of an activation follows from what it was seen to take on: minmax, entropy, percentile or
    mse (`thresholds.py`).
    The graph is kept in `cache_dir`/backbones under the digests of the float graph and of the pictures; a kept file
    that was damaged is made again. Files that cannot be decoded are passed over; raises DataError when none can,
    MissingExtra without onnx, OutputError when there is no room.
    """
    chosen = calibration_pictures.choose(samples)
    folder, stem = cache_dir / "backbones", f"{backbone.name}-int8-{_key(backbone, chosen, method)}"
    kept = kept_files.find(folder, stem) or kept_files.keep(folder, stem, _quantized(backbone, chosen, method))
    return replace(backbone, path=kept.path, digest=kept.digest, precision="int8")


def _key(backbone: Backbone, samples: Sequence[Sample], method: str) -> str:
    spec, digests = backbone.preprocess, [sample.digest for sample in samples]
    decides = [_REVISION, backbone.digest, asdict(spec), preprocess.REVISION, digests, method]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def _quantized(backbone: Backbone, samples: Sequence[Sample], method: str) -> bytes:
    engine.check("cpu")  # must be the first to load onnxruntime, with its settings
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error

    model = onnx.shape_inference.infer_shapes(onnx.load(backbone.path))
    batches = calibration_pictures.batches(samples, backbone)
    seen = calibrate(model, _QUANTIZED_OPS, bias_correction.inputs(model), batches)
    ranges = choose_ranges(model, _QUANTIZED_OPS, seen.observations, method)
    bias_correction.correct_biases(model, seen.means)
    pixels = pixel_input.overrides(model, backbone.preprocess)
    with writing(Path(tempfile.gettempdir())), _quiet_root_logger():
        quantized = _rounded(model, ranges, pixels)
    if pixels:
        pixel_input.use_pixels(quantized)
    onnx.checker.check_model(quantized)
    return quantized.SerializeToString(deterministic=True)


def _rounded(model: Any, ranges: dict[str, Range], overrides: dict[str, Any]) -> Any:
    """Return `model` with QuantizeLinear and DequantizeLinear around what `ranges` names."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    # quantize_static, which this is the second half of, would calibrate by itself. What matters is the ranges: which
    # method they come from is asked for by 8-bit floats alone.
    data = {name: tuple(np.array(end, np.float32) for end in each) for name, each in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=_QUANTIZED_OPS,
        extra_options={"TensorQuantOverrides": overrides},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


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
