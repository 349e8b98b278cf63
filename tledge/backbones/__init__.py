"""Names and weights → Backbone: one ONNX graph that ends in features."""

from tledge.backbones.registry import check_name, describe, load, names
from tledge.backbones.standardised import standardised

__all__ = ["check_name", "describe", "load", "names", "standardised"]
