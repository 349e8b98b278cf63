"""Judge the config of a Keras network and write it anew, so that what Keras then builds are its own plain layers.

A config may name any class in any module, pickled functions, files to read and addresses to fetch; Keras' safe mode
stops some of them, and in `.h5` files it stops none. Here nothing is copied that is not known: a layer must stand in
the table below, its module is put in by this file, and its settings are plain values. Initializers, regularizers and
constraints matter in training only and are left out, so that custom ones are no obstacle; so are losses and optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tledge.backbones.from_keras.keras2_config import mend, mend_layers
from tledge.errors import BackboneError

_MODELS = frozenset({"Functional", "Sequential", "Model"})
_WRAPPERS = frozenset({"TimeDistributed", "Bidirectional", "RNN", "StackedRNNCells"})
_PLAIN = """
InputLayer Dense EinsumDense Embedding Activation Softmax ReLU LeakyReLU PReLU ELU Identity
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
BatchNormalization LayerNormalization GroupNormalization UnitNormalization RMSNormalization Normalization Rescaling
MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
Flatten Reshape Permute RepeatVector ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D
UpSampling1D UpSampling2D UpSampling3D Resizing CenterCrop
Add Subtract Multiply Average Maximum Minimum Concatenate Dot
Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout GaussianNoise AlphaDropout
ActivityRegularization Masking Attention AdditiveAttention MultiHeadAttention
LSTM GRU SimpleRNN LSTMCell GRUCell SimpleRNNCell
RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness RandomCrop
RandomHeight RandomWidth
"""
_LAYERS = _WRAPPERS | frozenset(_PLAIN.split())
# What arithmetic on Keras tensors (`x * 2 + 1`, `keras.ops.mean(x)`) becomes in a file of Keras 3.
_ON_ARRAYS = """
Add Subtract Multiply Divide TrueDivide Power Negative Absolute Square Sqrt Exp Log Mean Sum Max Min Maximum Minimum
Clip Reshape Transpose Concatenate Stack Squeeze ExpandDims GetItem Matmul Flip Take
"""
_ON_LAYERS = "Relu Relu6 Sigmoid Softmax Silu HardSigmoid HardSilu Gelu LeakyRelu Elu Softplus"
_OPERATIONS = {
    **dict.fromkeys(_ON_ARRAYS.split(), "keras.src.ops.numpy"),
    **dict.fromkeys(_ON_LAYERS.split(), "keras.src.ops.nn"),
}
_OTHERS = {"LayerScale": "keras.src.applications.convnext"}
_NAMES = """
linear relu relu6 leaky_relu elu selu celu gelu glu sigmoid tanh softmax log_softmax softplus softsign silu swish
hard_sigmoid hard_silu hard_swish hard_tanh exponential mish log_sigmoid
"""
_ACTIVATIONS = frozenset(_NAMES.split())
_OF_KERAS = ("keras.", "tensorflow.python.keras.", "tensorflow.keras.", "tf_keras.")
_MARKS = frozenset({"__keras_tensor__", "__numpy__", "__tensor__", "__ellipsis__", "__slice__"})
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
_LEFT_OUT = frozenset(
    {"registered_name", "compile_config", "quantization_config", "lora_rank", "lora_alpha", "weights"}
)
_DEEPEST = 64
_TRUST = (
    "Nothing that a model file brings is run here. Rebuild the network from plain Keras layers, or convert it to ONNX."
)


def plain_config(config: dict[str, Any], keras_version: str = "") -> dict[str, Any]:
    """Return the config of the network `config` made of plain Keras layers alone, in the form that Keras 3 reads.

    What Keras 2 wrote is put as Keras 3 wants it; every layer computes in float32. `keras_version` is the writer's.
    Raises BackboneError, naming the layer, for anything that is code, custom or unknown.
    """
    if config.get("class_name") not in _MODELS:
        raise _refusal(config, "the model", "is a class of its own")
    return _plain_layer(config, "the model", _is_old(keras_version, config), 0)


def layers_of(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every layer in a config that `plain_config` returned, those of nested networks and wrappers included."""
    for layer in config["config"].get("layers", ()):
        yield layer
        yield from layers_of(layer)
    for key in ("layer", "backward_layer"):
        if isinstance(config["config"].get(key), dict):
            yield config["config"][key]
            yield from layers_of(config["config"][key])


def _is_old(keras_version: str, config: dict[str, Any]) -> bool:
    return not keras_version.startswith("3") if keras_version else "module" not in config


def _plain_layer(node: Any, place: str, old: bool, depth: int) -> dict[str, Any]:
    if not isinstance(node, dict) or not isinstance(node.get("class_name"), str) or depth > _DEEPEST:
        raise BackboneError(f"{place} is described by something that is no layer.", _TRUST)
    settings = node.get("config")
    if isinstance(settings, list) and node["class_name"] == "Sequential":  # before Keras 2.2.3
        settings = {"name": "sequential", "layers": settings}
    if not isinstance(settings, dict):
        settings = {}
    place = f"Layer {node.get('name') or settings.get('name') or node['class_name']!r}" if depth else place
    module, class_name = _home(node, settings, place)
    if old:
        settings = mend(class_name, settings, place)
    plain = {
        "module": module,
        "class_name": class_name,
        "config": _settings(class_name, settings, place, old, depth),
        "registered_name": class_name if module.startswith("keras.src") else None,
    }
    for key in ("name", "shared_object_id"):
        if isinstance(node.get(key), str | int):
            plain[key] = node[key]
    if "inbound_nodes" in node:
        plain["inbound_nodes"] = _value(node["inbound_nodes"], place, depth)
    if isinstance(node.get("build_config"), dict) and class_name not in _MODELS:
        plain["build_config"] = _value(node["build_config"], place, depth)
    return plain


def _home(node: dict[str, Any], settings: dict[str, Any], place: str) -> tuple[str, str]:
    """Return the module and class of Keras that `node` stands for, whatever it calls them itself."""
    class_name, module = node["class_name"], node.get("module")
    registered = node.get("registered_name")
    if class_name in ("Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
        raise _code(class_name, place)
    if not (module is None or module == "keras" or str(module).startswith(_OF_KERAS)):
        raise _refusal(node, place, f"comes from the module {module!r}")
    if registered not in (None, class_name):
        raise _refusal(node, place, f"is registered as {registered!r}")
    if class_name in _MODELS:
        return "keras", "Sequential" if class_name == "Sequential" else "Model"
    # In .h5 files there is no module, and only layers have more settings than a name and axes.
    bare = module is None and "dtype" not in settings and "trainable" not in settings and class_name != "InputLayer"
    if class_name in _OPERATIONS and (str(module).startswith("keras.src.ops.") or (bare and settings)):
        return _OPERATIONS[class_name], class_name
    if class_name in _LAYERS:
        return "keras.layers", class_name
    if class_name in _OTHERS:
        return _OTHERS[class_name], class_name
    raise _refusal(node, place, "is no layer that is known here")


def _settings(class_name: str, settings: dict[str, Any], place: str, old: bool, depth: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "dtype":
            plain[key] = _dtype(value, place)
        elif key == "layers" and class_name in _MODELS:
            plain[key] = _layers(value, place, old, depth)
        elif key in ("layer", "backward_layer", "cell") and class_name in _WRAPPERS and value is not None:
            plain[key] = _plain_layer(value, f"{place}, inside", old, depth + 1)
        elif key == "cells" and class_name in _WRAPPERS:
            plain[key] = [_plain_layer(cell, f"{place}, inside", old, depth + 1) for cell in value]
        elif key.endswith("activation"):
            plain[key] = _activation(value, place, old)
        elif key not in _LEFT_OUT and not key.endswith(_TRAINING_ONLY):
            plain[key] = _value(value, place, depth)
    if class_name in _MODELS and old:
        plain["layers"] = mend_layers(class_name, plain.get("layers", []), plain.get("build_input_shape"))
    if class_name == "InputLayer":
        plain["dtype"] = "float32"  # a picture of bytes, too, comes as float32
    return plain


def _layers(value: Any, place: str, old: bool, depth: int) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise BackboneError(f"{place} must have a list of layers.", _TRUST)
    return [_plain_layer(layer, place, old, depth + 1) for layer in value]


def _dtype(value: Any, place: str) -> str:
    name = value.get("config", {}).get("name") if isinstance(value, dict) else value
    quantized = isinstance(value, dict) and value.get("class_name") not in ("DTypePolicy", "Policy", "PolicyV1")
    if quantized or "int8" in str(name) or "float8" in str(name):
        raise BackboneError(f"{place} is quantized already.", "Save the network before it is quantized.")
    return "float32"


def _activation(value: Any, place: str, old: bool) -> str:
    """Return the name of a built-in activation; a node is a function of Keras 3 or an activation layer of Keras 2."""
    name = value
    if isinstance(value, dict):
        if value.get("class_name") in ("__lambda__", "Lambda"):
            raise _code("lambda", place)
        if value.get("module") not in (None, "builtins", "keras.activations"):
            raise _refusal(value, place, f"has an activation from {value['module']!r}")
        name = value.get("config") if value.get("class_name") == "function" else value.get("class_name")
    if name is None:
        return "linear"
    if not isinstance(name, str):
        raise BackboneError(f"{place} has an activation that is no name.", _TRUST)
    name = name.lower() if name in ("Softmax", "ReLU") else name
    if name not in _ACTIVATIONS:
        raise BackboneError(f"{place} has the activation {name!r}, which is not one of Keras' own.", _TRUST)
    if old and name in ("hard_sigmoid", "hard_tanh"):
        raise BackboneError(
            f"{place} has the activation {name} of Keras 2, which Keras 3 computes otherwise.",
            "Convert the network to ONNX with the Keras that it was made with.",
        )
    return name


def _value(value: Any, place: str, depth: int) -> Any:
    """Return a copy of a plain JSON value; an object with a class must be one of Keras' marks for constants."""
    if depth > _DEEPEST:
        raise BackboneError(f"{place} is nested too deeply.", _TRUST)
    if isinstance(value, list):
        return [_value(item, place, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if "class_name" in value and value["class_name"] not in _MARKS:
        if value["class_name"] in ("__lambda__", "function"):
            raise _code(str(value["class_name"]).strip("_"), place)
        raise _refusal(value, place, "has a setting that is an object of its own")
    return {key: _value(item, place, depth + 1) for key, item in value.items()}


def _code(what: str, place: str) -> BackboneError:
    return BackboneError(f"{place} is a {what}: code inside a model file, which is refused.", _TRUST)


def _refusal(node: dict[str, Any], place: str, what: str) -> BackboneError:
    return BackboneError(f"{place} ({node.get('class_name')}) {what}, which is refused.", _TRUST)
