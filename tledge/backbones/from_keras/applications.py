"""Networks that Keras itself offers with ImageNet weights, which it downloads once into its own folder.

Source: keras.applications for networks, weights and scaling; the papers are named there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones.from_keras import weights as keras_weights
from tledge.backbones.from_keras.application_table import APPLICATIONS, Application, weights_file, weights_path
from tledge.backbones.from_keras.layer_weights import assign
from tledge.backbones.from_keras.weights import PUBLISHED, RANDOM
from tledge.backbones.passes.leading_scale import take_leading_scale
from tledge.backbones.recipe import Recipe, preprocess_spec
from tledge.errors import BackboneError
from tledge.schema import Pool, PreprocessSpec

# mean and std in 0..255 pixels, RGB; the caffe networks take BGR, `inside` are those that scale pixels themselves.
_SCALINGS = {
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "inside": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


_BY_NAME = {application.name: application for application in APPLICATIONS}
# Keras hands out their published weights for their own input size only.
_ONE_SIZE = ("nasnet_mobile",)


def network(
    keras: ModuleType, name: str, size: int, pool: Pool = "avg", weights: str = PUBLISHED
) -> tuple[Any, PreprocessSpec, dict[str, Any]]:
    """Return the network called `name` with `weights`, how pictures are prepared for it, and no further facts.

    It takes RGB, whatever its weights were trained on. Raises BackboneError when the weights can neither be downloaded
    nor read, or are those of another network.
    """
    application = _BY_NAME[name]
    keras_weights.seed(keras)
    model = _with_weights(keras, application, size, pool, weights)
    features = keras.layers.Flatten(name="flatten")(model.output) if pool == "flatten" else model.output
    model = keras.Model(model.input, features, name=name)
    if application.scaling == "caffe":
        _reverse_channels(model)
    return *take_leading_scale(keras, model, preprocess_spec(_recipe(application), size)), {}


def _with_weights(keras: ModuleType, application: Application, size: int, pool: Pool, weights: str) -> Any:
    if weights == PUBLISHED:
        return _published(keras, application, size, pool)
    if weights == RANDOM:
        return _build(keras, application, size, pool, None)
    return _from_file(keras, application, size, pool, weights)


def _build(keras: ModuleType, application: Application, size: int, pool: Pool, weights: str | None) -> Any:
    make = getattr(keras.applications, application.called)
    pooling = None if pool == "flatten" else pool
    return make(input_shape=(size, size, 3), include_top=False, pooling=pooling, weights=weights)


def _published(keras: ModuleType, application: Application, size: int, pool: Pool) -> Any:
    at_once = application.name not in _ONE_SIZE or size == application.input_size
    try:
        published = _build(keras, application, size if at_once else application.input_size, pool, PUBLISHED)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise _refusal(application, weights_path(application, size), error) from error
    if at_once:
        return published
    model = _build(keras, application, size, pool, None)
    assign(model, published.get_weights())
    return model


def _refusal(application: Application, path: Path, error: Exception) -> BackboneError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    if path.exists():
        return BackboneError(f"Keras cannot read {path}: {reason}.", "Delete the file to download it again.")
    return BackboneError(
        f"Keras could not download the weights of {application.name}: {reason}.",
        f"Connect to the internet once, or put the file at {path}.",
    )


def _from_file(keras: ModuleType, application: Application, size: int, pool: Pool, path: str) -> Any:
    model = _build(keras, application, size, pool, None)
    keras_weights.read(model, path, application.name)
    if application.called.startswith("EfficientNetB"):
        _divide_by_deviation(keras, model)
    return model


def _divide_by_deviation(keras: ModuleType, model: Any) -> None:
    """Scale as the published EfficientNets do, where a file has their mean.

    The variance in their files is the deviation, so half of the division is missing; Keras adds it as a layer without
    weights, but only to the networks that it downloads itself. Source: tensorflow issue 49930.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, *rest = layer.get_weights()
    if np.allclose(mean.reshape(-1), _IMAGENET_MEAN, atol=1e-3):
        assign(layer, [mean, variance * np.array(_IMAGENET_STD, variance.dtype), *rest])


def _reverse_channels(model: Any) -> None:
    """Make a network that takes BGR take RGB: its first convolution reads the channels in reverse."""
    first = next(layer for layer in model.layers if layer.weights)
    kernel, *bias = first.get_weights()
    assign(first, [kernel[:, :, ::-1], *bias])


def _available(application: Application) -> bool:
    return weights_path(application).is_file()


def _leave_to_keras() -> None:
    """Do nothing: whether the weights can be downloaded shows only when Keras tries."""


def _recipe(application: Application) -> Recipe:
    mean, std = _SCALINGS[application.scaling]
    return Recipe(
        name=application.name,
        module=__name__,
        input_size=application.input_size,
        dimension=application.dimension,
        parameters=application.parameters,
        macs=application.macs,
        licence=application.licence,
        mean=mean,
        std=std,
        interpolation="bilinear",
        weights_id=weights_file(application),
        weights_hint=f"Keras downloads them ({application.megabytes} MB) at first use",
        weights_available=partial(_available, application),
        require_weights=_leave_to_keras,
        smallest_size=application.smallest_size,
    )


RECIPES = tuple(_recipe(application) for application in APPLICATIONS)
