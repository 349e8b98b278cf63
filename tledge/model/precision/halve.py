"""Float backbone → the same in half precision, with what float16 could not hold left in float32."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tledge import engine, half, modalities
from tledge.backbones import kept_files
from tledge.errors import MissingExtra
from tledge.model.precision import calibration_pictures
from tledge.model.precision.calibrate import calibrate
from tledge.model.precision.thresholds import Observation
from tledge.schema import Backbone, Sample

_REVISION = 1
_LIMIT = half.LARGEST / 2  # other pictures will reach further than those that were looked at
_KEPT = "tledge.float"  # in the metadata of the kept graph


def halve(backbone: Backbone, samples: Sequence[Sample], cache_dir: Path) -> tuple[Backbone, tuple[str, ...]]:
    """Return `backbone` in fp16, and the names of the nodes that stay in float32 because of how large values get.

    Those are the nodes that read or give an activation beyond half of what float16 can hold on up to 128 of the
    training `samples`, spread evenly over their digests, or that hold weights beyond it. The graph is kept in
    `cache_dir`/backbones under the digests of the float graph and of the pictures. Files that cannot be decoded are
    passed over; raises DataError when none can, ModelError when an activation is not finite, MissingExtra without
    onnx, OutputError when there is no room.
    """
    engine.check("cpu")  # must be the first to load onnxruntime, with its settings
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error

    chosen = calibration_pictures.choose(samples)
    folder, stem = cache_dir / "backbones", f"{backbone.name}-fp16-{_key(backbone, chosen)}"
    kept = kept_files.find(folder, stem) or kept_files.keep(folder, stem, _halved(backbone, chosen))
    said = {each.key: each.value for each in onnx.load(kept.path).metadata_props}
    return replace(backbone, path=kept.path, digest=kept.digest, precision="fp16"), tuple(json.loads(said[_KEPT]))


def _key(backbone: Backbone, samples: Sequence[Sample]) -> str:
    spec, digests = asdict(backbone.preprocess), [sample.digest for sample in samples]
    reading = modalities.READERS[backbone.preprocess.kind].revision
    decides = [_REVISION, half.REVISION, backbone.digest, spec, reading, digests]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def _halved(backbone: Backbone, samples: Sequence[Sample]) -> bytes:
    import onnx

    model = onnx.shape_inference.infer_shapes(half.load(backbone.path))
    metadata = {each.key: each.value for each in model.metadata_props}
    # Clip and Relu would hide what they read, and an infinity there is one too many.
    kinds = {node.op_type for node in model.graph.node} - {"Clip", "Relu"}
    seen = calibrate(model, kinds, [], calibration_pictures.batches(samples, backbone, metadata)).observations
    large = _too_large(model, seen)
    halved = onnx.load_from_string(half.in_half(backbone.path, large))
    already = set(half.spared(model))
    halved.metadata_props.add(key=_KEPT, value=json.dumps([name for name in large if name not in already]))
    onnx.checker.check_model(halved, full_check=True)
    return halved.SerializeToString(deterministic=True)


def _too_large(model: Any, seen: dict[str, Observation]) -> list[str]:
    """Return the names of the nodes that touch a value beyond the limit, in the order of the graph."""
    from onnx import TensorProto, numpy_helper

    names = {name for name, each in seen.items() if max(-each.low, each.high) > _LIMIT}
    for each in model.graph.initializer:
        if each.data_type == TensorProto.FLOAT:
            weights = numpy_helper.to_array(each)
            if weights.size and np.abs(weights).max() > _LIMIT:
                names.add(each.name)
    return [node.name for node in model.graph.node if names.intersection((*node.input, *node.output))]
