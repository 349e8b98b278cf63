"""Turn a Keras network into a backbone's ONNX file. The one home of TensorFlow, Keras and tf2onnx.

The conversion runs as a program of its own (see conversion.py), so that the gigabyte and the log lines of TensorFlow
end with it, and what it sets for the process is nobody else's.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tledge import keras_process
from tledge.backbones import sound_input
from tledge.backbones.conversion import FACTS_FILE, MODEL_FILE, NETWORKS, REVISION
from tledge.backbones.from_keras.agreement import check_agreement
from tledge.backbones.passes.dense_maps import convolve_dense_maps
from tledge.backbones.passes.drop_reshapes import drop_reshapes
from tledge.backbones.passes.fold_batch_norm import fold_batch_norm
from tledge.backbones.passes.names import rename
from tledge.backbones.passes.paddings import settle_paddings
from tledge.backbones.passes.sink_transposes import sink_transposes
from tledge.backbones.passes.transpose_first import transpose_first
from tledge.errors import MissingExtra
from tledge.graph_writer import IR_VERSION, OPSET
from tledge.schema import InputSpec, SoundSpec, VectorSpec

_DOWNLOAD_SECONDS = 20
# Keras wraps the one and draws with the other, where they are installed; nothing here asks for either.
_UNWANTED = ("sklearn", "matplotlib")


def import_keras() -> ModuleType:
    """Return the module keras, set to float32 and channels last on TensorFlow. Raises MissingExtra."""
    try:
        with _little_imported():
            import keras
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise MissingExtra("TensorFlow", "train") from error
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    return keras


@contextmanager
def _little_imported() -> Iterator[None]:
    """Halve what it takes to import Keras: not what it can do without, nor any look for garbage among what stays."""
    if "keras" in sys.modules:
        yield
        return
    hidden: dict[str, Any] = {name: None for name in _UNWANTED if name not in sys.modules}
    sys.modules.update(hidden)  # None: as if it were not installed
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()
        if collects:
            gc.enable()


def convert(network: Any, spec: InputSpec) -> bytes:
    """Return the ONNX file of a Keras `network`: normalised float32 input → float32 [N, dimension].

    The graph takes `image` uint8 [N, height, width, 3], `vector` float32 [N, length] or `audio` float32 [N, samples],
    normalises it as `spec` says, computes the spectrogram that a `network` of sounds may want, and returns `features`
    float32; batch normalisation is folded into the convolutions. `network` stays as it is.
    Equal networks give equal bytes.
    Raises MissingExtra, and BackboneError when onnxruntime computes other features from the file than Keras does.
    """
    keras = import_keras()
    folded = fold_batch_norm(keras, convolve_dense_maps(keras, network))
    model = _trace(folded, spec)
    sink_transposes(model)
    drop_reshapes(model)
    settle_paddings(model)
    _finish(model, network)
    if isinstance(spec, SoundSpec):
        own = tuple(network.inputs[0].shape[1:])
        sound_input.lead(model, spec, sound_input.axes(own, spec) or "s", spec.kind)
    data = model.SerializeToString(deterministic=True)
    check_agreement(keras, data, network, spec)
    return data


def _trace(network: Any, spec: InputSpec) -> Any:
    """Return the onnx.ModelProto of normalisation and `network`, as tf2onnx makes it."""
    try:
        import tensorflow as tf
        import tf2onnx
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    except ImportError as error:
        raise MissingExtra("tf2onnx", "train") from error
    given = tf.TensorSpec(
        [None, *_shape(network, spec)], tf.uint8 if spec.kind == "image" else tf.float32, name=spec.kind
    )

    @tf.function(input_signature=[given])
    def features(raw: Any) -> Any:
        if isinstance(spec, SoundSpec):
            return network(raw, training=False)
        numbers = (tf.cast(raw, tf.float32) - tf.constant(spec.mean)) / tf.constant(spec.std)
        return network(numbers, training=False)

    with _functions_inlined(tf):
        frozen = convert_variables_to_constants_v2(features.get_concrete_function())
    # Not from_function: it takes the constants that a function has captured for inputs, too.
    (source,), (result,) = frozen.inputs, frozen.outputs
    return tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name=network.name,
        input_names=[source.name],
        output_names=[result.name],
        tensors_to_rename={source.name: spec.kind, result.name: "features"},
        opset=OPSET,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )[0]


@contextmanager
def _functions_inlined(tf: ModuleType) -> Iterator[None]:
    """Trace through functions in functions: Keras compiles grouped convolutions, which tf2onnx cannot look into."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _erfc(context: Any, node: Any, name: str, _: Any) -> None:
    """Write erfc(−c·x) as 1 + erf(x / (1/c)), which onnxruntime takes for the heart of a gelu; ONNX has no erfc."""
    product = node.inputs[0]
    if product.type == "Mul" and product.inputs[0].type == "Neg" and product.inputs[1].is_const():
        divisor = context.make_const(f"{name}/divisor", 1 / product.inputs[1].get_tensor_value(as_list=False))
        argument, sign = context.make_node("Div", [product.inputs[0].input[0], divisor.output[0]]).output[0], 1
    else:
        argument, sign = node.input[0], -1
    error = context.make_node("Erf", [argument])
    one = context.make_const(f"{name}/one", np.float32(1))
    context.remove_node(node.name)
    operands = [error.output[0], one.output[0]][::sign]
    context.make_node("Add" if sign > 0 else "Sub", operands, outputs=node.output, name=name)


def _shape(network: Any, spec: InputSpec) -> tuple[int, ...]:
    if isinstance(spec, SoundSpec):
        return tuple(network.inputs[0].shape[1:])
    return (spec.length,) if isinstance(spec, VectorSpec) else (spec.height, spec.width, 3)


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


def build(module: str, arguments: dict[str, Any]) -> tuple[Any, InputSpec, dict[str, Any]]:
    """Return what `network(keras, **arguments)` of `module` gives, which must be one of NETWORKS."""
    if module not in NETWORKS:
        raise ValueError(f"{module} is not among {', '.join(NETWORKS)}")
    socket.setdefaulttimeout(_DOWNLOAD_SECONDS)
    return import_module(module).network(import_keras(), **arguments)


def leave(folder: Path, network: Any, spec: InputSpec, facts: dict[str, Any]) -> None:
    """Convert `network` into MODEL_FILE in `folder`, and write FACTS_FILE beside it, as Converted says."""
    data = convert(network, spec)
    facts = {**facts, "dimension": network.outputs[0].shape[-1], "preprocess": asdict(spec)}
    (folder / FACTS_FILE).write_text(json.dumps(facts))
    (folder / MODEL_FILE).write_bytes(data)


def work(folder: Path, module: str, arguments: dict[str, Any]) -> None:
    """Convert the network that the order names."""
    leave(folder, *build(module, arguments))


if __name__ == "__main__":
    keras_process.follow(sys.argv[1], work)
