"""Give a Keras layer other weights, and let it draw the conclusions that only some layers draw by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def assign(layer: Any, arrays: Sequence[np.ndarray]) -> None:
    """Set the weights of a Keras `layer`, or of a whole model, to `arrays`.

    Normalization computes with numbers that it derives from its weights when it is built, adapted or loaded from a
    file, but not when they are set; a layer that holds others has them do it, too.
    """
    layer.set_weights(list(arrays))
    for each in layer._flatten_layers():
        if hasattr(each, "finalize_state"):
            each.finalize_state()
