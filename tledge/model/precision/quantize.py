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
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tledge import engine, modalities
from tledge.backbones import kept_files
from tledge.errors import MissingExtra
from tledge.model.precision import (
    bias_correction,
    calibration_pictures,
    constant_factors,
    equalisation,
    feature_error,
    int8_form,
    layers,
    left_float,
    pixel_input,
)
from tledge.model.precision.calibrate import Calibration, calibrate, channel_reaches, choose_ranges
from tledge.model.precision.thresholds import METHODS, Range
from tledge.places import writing
from tledge.schema import Backbone, CalibrationError, Sample

_REVISION = 11
# Clip and Relu vanish into the range of what feeds them. The last average stays float: an 8-bit mean of 8-bit values
# would throw away what averaging gains. What onnxruntime has a kernel for runs in int8 between two of these unasked:
# Sigmoid, LeakyRelu, Softmax, averages, Reshape, Transpose, Resize.
_QUANTIZED_OPS = ["Conv", "Gemm", "MatMul", "Add", "Mul", "Clip", "Relu", "MaxPool", "Concat", "Slice", "Split"]

# As onnxruntime's documentation of its TensorRT provider has it. An output rounded before its Relu or Clip would keep
# TensorRT from fusing the two.
_FOR_TENSORRT = {
    "ActivationSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,
    "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MatMul"],
}


class Rounding(NamedTuple):
    """How weights become int8: `per_channel`, a scale for every output channel; else one for all, as some NPUs need.

    `reduce_range` leaves them seven bits. Without VNNI an x86 adds two products of uint8 and int8 in 16 bits, which
    saturate with eight: onnxruntime's quantize.py recommends seven there, and eight everywhere else.
    `symmetric` is for TensorRT, which knows no zero points: activations are int8 around zero, and outputs are rounded
    behind the Relu or Clip that they are fused with. Weights stay float in the file, with a QuantizeLinear of their
    own, biases without. The CPU computes such a graph in float, with the same roundings.
    """

    per_channel: bool = True
    reduce_range: bool = False
    symmetric: bool = False


_DEFAULT = Rounding()


class Recipe(NamedTuple):
    """What decides over an int8 graph beside its rounding; `float_layers` are names of nodes in alphabetical order."""

    method: str
    equalised: bool
    float_layers: tuple[str, ...] = ()


def quantize(
    backbone: Backbone,
    samples: Sequence[Sample],
    cache_dir: Path,
    method: str = "minmax",
    rounding: Rounding = _DEFAULT,
    *,
    equalised: bool = False,
    float_layers: Sequence[str] = (),
) -> Backbone:
    """Return `backbone` in int8, calibrated on up to 128 of the training `samples`, spread evenly over their digests.

    `method` is how the range of an activation follows from what it was seen to take on: minmax, entropy, percentile or
    mse (`thresholds.py`). With `equalised`, channels are scaled first so that they use more of that range
    (`equalisation.py`). `float_layers` are the names of nodes, of `layers.LAYERS`, that stay in float.
    The graph is kept in `cache_dir`/backbones under the digests of the float graph and of the pictures; a kept file
    that was damaged is made again. Files that cannot be decoded are passed over; raises DataError when none can,
    MissingExtra without onnx, OutputError when there is no room.
    """
    chosen, recipe = calibration_pictures.choose(samples), Recipe(method, equalised, tuple(sorted(float_layers)))
    return _kept(backbone, chosen, cache_dir, (recipe,), rounding)[recipe]


def quantize_best(
    backbone: Backbone,
    samples: Sequence[Sample],
    cache_dir: Path,
    rounding: Rounding = _DEFAULT,
    methods: Sequence[str] = tuple(METHODS),
) -> tuple[Backbone, tuple[CalibrationError, ...]]:
    """Return `backbone` in int8 by that of `methods`, equalised or not, whose features err least, and the errors.

    The errors stand the least first. They are measured on up to 32 of the training `samples` that are not among the up
    to 128 that the ranges come from; where all are equal, on that one. The first of `methods` tells whether equalised
    is better, and the others follow it. Keeps and raises what `quantize` does.
    """
    seen, others = calibration_pictures.part(samples)
    batches = list(calibration_pictures.batches(others, backbone))
    exact = feature_error.features(backbone.path, backbone.name, batches)
    made: dict[Recipe, Backbone] = {}
    errors: dict[Recipe, float] = {}

    def judge(recipes: Sequence[Recipe]) -> None:
        made.update(_kept(backbone, seen, cache_dir, recipes, rounding))
        for recipe in recipes:
            found = feature_error.features(made[recipe].path, backbone.name, batches)
            errors[recipe] = feature_error.relative(found, exact)

    ways = (False, True) if equalisation.groups(float_graph(backbone)) else (False,)
    judge([Recipe(methods[0], equalised) for equalised in ways])
    equalised = min(errors, key=errors.__getitem__).equalised  # of equally good ones the first, the plainer one
    judge([Recipe(method, equalised) for method in methods[1:]])
    ordered = sorted(errors, key=errors.__getitem__)
    said = tuple(CalibrationError(each.method, errors[each], each.equalised) for each in ordered)
    return made[ordered[0]], said


def _kept(
    backbone: Backbone, samples: Sequence[Sample], cache_dir: Path, recipes: Sequence[Recipe], rounding: Rounding
) -> dict[Recipe, Backbone]:
    """Return the int8 graph of each recipe; those that are not kept yet share their calibrations."""
    folder = cache_dir / "backbones"
    stems = {each: f"{backbone.name}-int8-{key(backbone, samples, each, rounding)}" for each in recipes}
    found = {each: kept_files.find(folder, stem) for each, stem in stems.items()}
    missing = [each for each, kept in found.items() if kept is None]
    for recipe, content in quantized(backbone, samples, missing, rounding):
        found[recipe] = kept_files.keep(folder, stems[recipe], content)
    return {
        each: replace(backbone, path=kept.path, digest=kept.digest, precision="int8")
        for each, kept in found.items()
        if kept
    }


def key(backbone: Backbone, samples: Sequence[Sample], recipe: Recipe, rounding: Rounding) -> str:
    """Return 16 hex digits that change with all that the int8 graph of `recipe` depends on."""
    spec, digests = backbone.preprocess, [sample.digest for sample in samples]
    reading = modalities.READERS[spec.kind].revision
    choices = recipe._asdict() | rounding._asdict()
    decides = [
        _REVISION,
        backbone.digest,
        asdict(spec),
        reading,
        digests,
        choices,
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def quantized(
    backbone: Backbone, samples: Sequence[Sample], recipes: Sequence[Recipe], rounding: Rounding
) -> Iterator[tuple[Recipe, bytes]]:
    """Yield each of `recipes` with its int8 graph, calibrated on all `samples`; kept nowhere."""
    for equalised in dict.fromkeys(each.equalised for each in recipes):
        exact, seen = _calibrated(backbone, tuple(samples), equalised)
        for recipe in recipes:
            if recipe.equalised == equalised:
                yield recipe, _in_int8(exact, seen, backbone, recipe, rounding)


@lru_cache(maxsize=1)  # for the methods that share it, and the graphs of mixed precision; a VGG16 is half a gigabyte
def _calibrated(backbone: Backbone, samples: tuple[Sample, ...], equalised: bool) -> tuple[Any, Calibration]:
    """Return the float graph that is rounded, onnx.ModelProto, not to be changed, and what its activations take on."""
    exact = float_graph(backbone)
    if equalised:
        _equalise(exact, backbone, samples)
    batches = calibration_pictures.batches(samples, backbone)
    return exact, calibrate(exact, _QUANTIZED_OPS, bias_correction.inputs(exact), batches)


def float_graph(backbone: Backbone) -> Any:
    """Return the float graph of `backbone`, an onnx.ModelProto, in the form that int8 likes."""
    engine.check("cpu")  # must be the first to load onnxruntime, with its settings
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    return int8_form.rewritten(onnx.load(backbone.path))


def _equalise(model: Any, backbone: Backbone, samples: Sequence[Sample]) -> None:
    found = equalisation.groups(model)
    if found:
        names = [name for group in found for name in group.tensors]
        equalisation.equalise(
            model, found, channel_reaches(model, names, calibration_pictures.batches(samples, backbone))
        )


def _in_int8(exact: Any, seen: Calibration, backbone: Backbone, recipe: Recipe, rounding: Rounding) -> bytes:
    import onnx

    model = onnx.ModelProto.FromString(exact.SerializeToString())
    layers.detach(model)
    ranges = choose_ranges(model, _QUANTIZED_OPS, seen.observations, recipe.method)
    constant_factors.carry_ranges(model, ranges)
    stay = dict.fromkeys((*recipe.float_layers, *layers.before_logarithms(model)))
    left = layers.exclude(model, stay, _QUANTIZED_OPS)
    per_channel, reduce_range, symmetric = rounding
    bias_correction.correct_biases(model, seen.means, left, per_channel=per_channel, reduce_range=reduce_range)
    pixels = {} if symmetric else pixel_input.overrides(model, backbone.preprocess, left)
    with writing(Path(tempfile.gettempdir())), _quiet_root_logger():
        quantized = _rounded(model, ranges, pixels, rounding, left)
    if not symmetric:  # TensorRT wants one scale on both sides of a rounding
        constant_factors.drop(quantized)
    if pixels:
        pixel_input.use_pixels(quantized)
    else:
        pixel_input.widen(quantized, backbone.preprocess)
    onnx.checker.check_model(quantized)
    return quantized.SerializeToString(deterministic=True)


def _rounded(
    model: Any, ranges: dict[str, Range], overrides: dict[str, Any], rounding: Rounding, left: list[str]
) -> Any:
    """Return `model` with QuantizeLinear and DequantizeLinear around what `ranges` names, but not for nodes `left`."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    # quantize_static, which this is the second half of, would calibrate by itself. What matters is the ranges: which
    # method they come from is asked for by 8-bit floats alone.
    data = {name: tuple(np.array(end, np.float32) for end in each) for name, each in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=rounding.per_channel,
        reduce_range=rounding.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if rounding.symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=[*left, *pixel_input.normalisation(model)],
        op_types_to_quantize=_QUANTIZED_OPS,
        extra_options={"TensorQuantOverrides": overrides} | (_FOR_TENSORRT if rounding.symmetric else {}),
    )
    quantizer.quantize_model()
    if not rounding.symmetric:  # TensorRT has one scale for an activation, and rounds nothing by itself
        left_float.protect(quantizer.model.model, left)
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
