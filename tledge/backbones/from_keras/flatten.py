"""Lay a Keras network out as one flat graph: networks inside networks become their layers.

A fine-tuned network is mostly a network inside a sequence. Flat, its convolutions meet their normalisation (see
fold_batch_norm.py), and each layer can be cut at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tledge.errors import BackboneError

# Augmentation does nothing at inference but add operators.
_AUGMENTATION = frozenset(
    f"Random{what}" for what in ("Flip", "Rotation", "Zoom", "Translation", "Contrast", "Brightness", "Height", "Width")
)


@dataclass(slots=True)
class FlatNetwork:
    """A functional Keras model of plain layers, and what each layer of the original returns, by its name.

    A name that two networks use is written `NETWORK_LAYER` for the later one.
    """

    network: Any = None
    named: dict[str, Any] = field(default_factory=dict)


def flatten(keras: ModuleType, model: Any, shape: tuple[int | None, ...]) -> FlatNetwork:
    """Return the flat copy of `model` (one input) for inputs of `shape`, without the batch axis; weights are copied.

    Raises BackboneError when the layers do not fit that shape.
    """
    copying = _Copying(keras)
    given = keras.Input(shape, name="pixels" if len(shape) > 1 else "numbers")
    try:
        outputs = copying.run(model, given)
        network = keras.Model(given, outputs, name=model.name)
    except (ValueError, TypeError) as error:
        told = "×".join("any" if side is None else str(side) for side in shape)
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise BackboneError(
            f"The network does not take inputs of {told}: {reason}.", "Leave --input-size at the size it was made for."
        ) from error
    return FlatNetwork(network, copying.named)


class _Copying:
    """Calls copies of layers one after the other; a layer that is used twice is copied once."""

    def __init__(self, keras: ModuleType) -> None:
        self.keras = keras
        self.named: dict[str, Any] = {}
        self._copies: dict[int, Any] = {}
        self._inside: list[str] = []

    def run(self, model: Any, given: Any) -> Any:
        """Return what `model` makes of the symbolic tensor `given`."""
        if isinstance(model, self.keras.Sequential):
            for layer in model.layers:
                given = self._call(layer, given)
            return given
        # What clone_model stands on; clone_model itself cannot begin in the middle of a graph.
        outputs = model._run_through_graph([given], operation_fn=lambda layer: layer, call_fn=self._call)
        return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs

    def _call(self, layer: Any, tensor: Any, *others: Any, **options: Any) -> Any:
        if type(layer).__name__ in _AUGMENTATION:
            return tensor
        if isinstance(layer, self.keras.Model):
            self._inside.append(layer.name)
            output = self.run(layer, tensor)
            self._inside.pop()
            self.named.setdefault(layer.name, output)
            return output
        options.pop("training", None)  # a frozen part is called with training=False, which is what all of it is now
        copy = self._copies.get(id(layer)) or self._copy(layer)
        output = copy(tensor, *others, **options)
        if id(layer) not in self._copies:
            self._copies[id(layer)] = copy
            self.named[copy.name] = output
            if getattr(layer, "weights", None):
                copy.set_weights(layer.get_weights())
        return output

    def _copy(self, layer: Any) -> Any:
        settings = layer.get_config()
        settings["name"] = self._unused(layer.name)
        copy = type(layer).from_config(settings)
        copy.trainable = True
        return copy

    def _unused(self, name: str) -> str:
        if name not in self.named:
            return name
        stem = "_".join([*self._inside[-1:], name])
        return next(n for n in (stem, *(f"{stem}_{i}" for i in range(1, 10_000))) if n not in self.named)
