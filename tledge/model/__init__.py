"""Backbone + Head → Model: join, quantize or halve, verify, and stamp the manifest into the file."""

from tledge.model.build import build
from tledge.model.halve import halve
from tledge.model.quantize import Recipe, Rounding, quantize, quantize_best
from tledge.model.sensitivity import sensitivities
from tledge.model.verify import check_golden

__all__ = ["Recipe", "Rounding", "build", "check_golden", "halve", "quantize", "quantize_best", "sensitivities"]
