"""From a map of features to one row of features."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tledge.schema import Pool


def pooled(keras: ModuleType, tensor: Any, pool: Pool) -> Any:
    """Return a Keras `tensor` [N, h, w, c] as [N, c], its average or maximum, or flattened as [N, h·w·c]."""
    layers = keras.layers
    kinds = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D, "flatten": layers.Flatten}
    return kinds[pool](name="pool" if pool != "flatten" else "flatten")(tensor)
