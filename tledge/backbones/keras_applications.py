"""Networks that Keras itself offers with ImageNet weights, which it downloads once into its own folder.

Source: Sandler et al. 2018 (arXiv 1801.04381) for MobileNetV2; keras.applications for network, weights and scaling.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from tledge.backbones.recipe import Recipe
from tledge.errors import BackboneError

_WEIGHTS_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


def weights_path() -> Path:
    """Return where Keras keeps the weights once it has downloaded them."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path("~/.keras").expanduser()) / "models" / _WEIGHTS_FILE


def build_mobilenet_v2(keras: ModuleType, size: int, weights: str | None = "imagenet") -> Any:
    """Return MobileNetV2 up to its pooled features; with `weights=None` it is random. See Recipe.build.

    Raises BackboneError when the weights can neither be downloaded nor read.
    """
    try:
        return keras.applications.MobileNetV2(
            input_shape=(size, size, 3), include_top=False, pooling="avg", weights=weights, name="mobilenet_v2"
        )
    except Exception as error:  # Keras raises a bare Exception when a download fails
        path = weights_path()
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if path.exists():
            raise BackboneError(
                f"Keras cannot read {path}: {reason}.", "Delete the file to download it again."
            ) from error
        raise BackboneError(
            f"Keras could not download the weights of mobilenet_v2: {reason}.",
            f"Connect to the internet once, or put the file at {path}.",
        ) from error


def _available() -> bool:
    return weights_path().is_file()


def _leave_to_keras() -> None:
    """Do nothing: whether the weights can be downloaded shows only when Keras tries."""


RECIPES = (
    Recipe(
        name="mobilenet_v2",
        input_size=224,
        dimension=1280,
        parameters=2_223_872,
        licence="Apache-2.0",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        interpolation="bilinear",
        weights_id=_WEIGHTS_FILE,
        weights_hint="Keras downloads them (9 MB) at first use",
        weights_available=_available,
        require_weights=_leave_to_keras,
        build=build_mobilenet_v2,
    ),
)
