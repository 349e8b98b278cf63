"""Turn a Keras network into a backbone's ONNX file. The one home of TensorFlow, Keras and tf2onnx.

The conversion runs as a program of its own (see conversion.py), so that the gigabyte and the log lines of TensorFlow
end with it, and what it sets for the process is nobody else's.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones.conversion import ERROR_FILE, MODEL_FILE, REVISION
from tledge.backbones.fold_batch_norm import fold_batch_norm
from tledge.backbones.onnx_names import rename
from tledge.backbones.transpose_first import transpose_first
from tledge.errors import BackboneError, MissingExtra, TledgeError
from tledge.schema import PreprocessSpec

OPSET, IR_VERSION = 17, 8  # read by onnxruntime 1.12 and later, hence by JetPack's older builds
_TOLERANCE = 1e-4
_DOWNLOAD_SECONDS = 20


def import_keras() -> ModuleType:
    """Return the module keras, set to float32 and channels last on TensorFlow. Raises MissingExtra."""
    try:
        import keras
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise MissingExtra("TensorFlow", "train") from error
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    return keras


def convert(network: Any, spec: PreprocessSpec) -> bytes:
    """Return the ONNX file of a Keras `network` (normalised float32 [N, height, width, 3] → [N, dimension]).

    The graph takes `image` uint8 [N, height, width, 3], normalises it as `spec` says and returns `features` float32;
    batch normalisation is folded into the convolutions. `network` stays as it is. Equal networks give equal bytes.
    Raises MissingExtra, and BackboneError when onnxruntime computes other features from the file than Keras does.
    """
    folded = fold_batch_norm(import_keras(), network)
    model = _trace(folded, spec)
    _finish(model, network)
    data = model.SerializeToString(deterministic=True)
    _check_agreement(data, network, spec)
    return data


def _trace(network: Any, spec: PreprocessSpec) -> Any:
    try:
        import tensorflow as tf
        import tf2onnx
    except ImportError as error:
        raise MissingExtra("tf2onnx", "train") from error
    image = tf.TensorSpec([None, spec.height, spec.width, 3], tf.uint8, name="image")

    @tf.function(input_signature=[image])
    def features(image: Any) -> dict[str, Any]:
        pixels = (tf.cast(image, tf.float32) - tf.constant(spec.mean)) / tf.constant(spec.std)
        return {"features": network(pixels, training=False)}

    return tf2onnx.convert.from_function(features, input_signature=[image], opset=OPSET)[0]


def _finish(model: Any, network: Any) -> None:
    """Settle what tf2onnx leaves open: names, the name of the batch axis, versions."""
    rename(model, [layer.name for layer in network.layers])
    transpose_first(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    used = [opset for opset in model.opset_import if opset.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(used)
    del model.graph.value_info[:]
    model.ir_version = IR_VERSION
    model.graph.name, model.graph.doc_string = network.name, ""
    model.producer_name, model.producer_version, model.doc_string = "tledge", str(REVISION), ""


def _check_agreement(data: bytes, network: Any, spec: PreprocessSpec) -> None:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "cpu") from error
    image = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, 3), dtype=np.uint8)
    pixels = ((image - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32)
    expected = np.asarray(network(pixels, training=False))
    (found,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"image": image})
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= _TOLERANCE:
        raise BackboneError(
            f"The converted {network.name} must compute what Keras computes, but is off by {error:.1e}.",
            "Try other versions of tensorflow and tf2onnx.",
        )


def main(name: str, size: str, folder: str) -> None:
    """Convert the backbone `name` at `size` pixels; leave MODEL_FILE in `folder`, or ERROR_FILE for a TledgeError."""
    from tledge.backbones.recipe import preprocess_spec
    from tledge.backbones.registry import find

    socket.setdefaulttimeout(_DOWNLOAD_SECONDS)
    try:
        recipe = find(name)
        data = convert(recipe.build(import_keras(), int(size)), preprocess_spec(recipe, int(size)))
        Path(folder, MODEL_FILE).write_bytes(data)
    except TledgeError as error:
        Path(folder, ERROR_FILE).write_text(json.dumps({"message": error.message, "hint": error.hint}))


if __name__ == "__main__":
    main(*sys.argv[1:])
