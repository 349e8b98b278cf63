"""Names and weights → Backbone: one ONNX graph that ends in features."""

from tledge.backbones.identity import identity
from tledge.backbones.registry import check_name, describe, load, names

__all__ = ["check_name", "describe", "identity", "load", "names"]
