"""Backbone + Head → Model: join, quantize or halve, verify, and stamp the manifest into the file."""

from tledge.model.build import build
from tledge.model.precision.dynamic import DYNAMIC, fits_dynamic, quantize_dynamic
from tledge.model.precision.halve import halve
from tledge.model.precision.int8_chain import float_nodes
from tledge.model.precision.quantize import Recipe, Rounding, quantize, quantize_best
from tledge.model.precision.sensitivity import sensitivities
from tledge.model.verify import check_golden
from tledge.model.whole_pictures import through_graph

__all__ = [
    "DYNAMIC",
    "Recipe",
    "Rounding",
    "build",
    "check_golden",
    "fits_dynamic",
    "float_nodes",
    "halve",
    "quantize",
    "quantize_best",
    "quantize_dynamic",
    "sensitivities",
    "through_graph",
]
