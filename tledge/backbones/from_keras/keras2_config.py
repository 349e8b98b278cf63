"""Put what Keras 2 wrote into configs as Keras 3 wants it.

Keras 3 refuses settings that it does not know, even where they say nothing: `groups` of a depthwise convolution is
always 1. Each is dropped where it has the one value that changes nothing, and refused by name elsewhere.
Source: get_config of the layers of Keras 2.2 to 2.15; keras issues 19441 and 20113 (`groups` in DepthwiseConv2D).
"""

from __future__ import annotations

from typing import Any

from tledge.errors import BackboneError

_ANY = object()
_UNGROUPED = frozenset(f"{kind}{axes}D" for kind in ("DepthwiseConv", "SeparableConv") for axes in (1, 2)) | frozenset(
    f"Conv{axes}DTranspose" for axes in (1, 2, 3)
)
# Setting → the values at which it says nothing.
_IDLE: dict[str, tuple[Any, ...]] = {
    "time_major": (False,),
    "ragged": (False,),
    "sparse": (False,),
    "stateful": (False,),
    "renorm": (False,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "fused": (_ANY,),
    "renorm_clipping": (_ANY,),
    "renorm_momentum": (_ANY,),
    "implementation": (_ANY,),
    "input_length": (_ANY,),
    "experimental_run_tf_function": (_ANY,),
}
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}, "Dropout": {"p": "rate"}}
_AXIS_LISTS = ("BatchNormalization", "LayerNormalization", "Softmax")


def mend(class_name: str, settings: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the settings of one layer of Keras 2 as Keras 3 takes them; `place` is what to call it in an error.

    Raises BackboneError for a setting of Keras 2 that has no counterpart.
    """
    idle = _IDLE | ({"groups": (1, None)} if class_name in _UNGROUPED else {})
    names = _RENAMED.get(class_name, {})
    mended: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in idle:
            mended[names.get(key, key)] = _number(value)
        elif not (_ANY in idle[key] or value in idle[key]):
            raise BackboneError(
                f"{place} ({class_name}) has {key} = {value!r}, for which Keras 3 has nothing.",
                "Convert the network to ONNX with the Keras that it was made with.",
            )
    if class_name in _AXIS_LISTS and isinstance(mended.get("axis"), list) and len(mended["axis"]) == 1:
        mended["axis"] = mended["axis"][0]
    if class_name == "InputLayer":
        mended = _input(mended)
    return mended


def mend_layers(class_name: str, layers: list[dict[str, Any]], input_shape: Any = None) -> list[dict[str, Any]]:
    """Return the layers of a network; those of a Sequential with an InputLayer before them, where its shape is known.

    Before TensorFlow 2.2 the shape stood with the first layer only.
    """
    shapes = [layer["config"].pop("batch_input_shape", None) for layer in layers if layer["class_name"] != "InputLayer"]
    if class_name != "Sequential" or not layers or layers[0]["class_name"] == "InputLayer":
        return layers
    shape = shapes[0] or input_shape
    if shape is None:
        return layers
    settings = {"name": "input", "batch_shape": shape, "dtype": "float32"}
    first = {"module": "keras.layers", "class_name": "InputLayer", "config": settings, "registered_name": None}
    return [first, *layers]


def _input(settings: dict[str, Any]) -> dict[str, Any]:
    shape = settings.pop("batch_input_shape", None)
    return {**settings, "batch_shape": shape} if shape is not None else settings


def _number(value: Any) -> Any:
    """Return a number that Keras 2 wrote as a NumPy array of one, all else as it is."""
    if isinstance(value, dict) and value.get("type") == "ndarray":
        return value.get("value")
    return value
