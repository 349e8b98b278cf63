"""Every value that crosses an arrow of the sentence

    Dataset → Backbone → Features → Head → Model → Prediction / Measurement

as a frozen dataclass without behaviour, and the documents that the commands return. What is asked for is imported:
making all of these classes takes longer than some commands.
"""

from __future__ import annotations

import importlib
from typing import Any

_ROOMS = {
    "benches": (
        "BenchResult",
        "Histogram",
        "Latencies",
        "MultiStream",
        "Offline",
        "Quantile",
        "Rate",
        "Reference",
        "Server",
        "SingleStream",
        "Validity",
        "Verdict",
        "WarmUp",
        "Window",
    ),
    "box": (
        "BoxBudgets",
        "BudgetCheck",
        "ColdStart",
        "Conditions",
        "EndToEnd",
        "Energy",
        "EnergyPart",
        "EnergySource",
        "MachineState",
        "Resources",
        "Stage",
    ),
    "documents": (
        "BackbonesResult",
        "CacheCounts",
        "CacheResult",
        "CacheSpace",
        "Compared",
        "CompareResult",
        "CrossValidation",
        "DoctorResult",
        "EvaluateResult",
        "FineTuning",
        "GoldenCheck",
        "Mistake",
        "NodeElsewhere",
        "Outcome",
        "Prediction",
        "PredictResult",
        "ReliabilityBin",
        "ReportData",
        "SampleCounts",
        "SignResult",
        "TrainResult",
        "VerifyResult",
    ),
    "exports": (
        "AccuracyChange",
        "CalibrationError",
        "CandidateFigures",
        "ClassChange",
        "Comparison",
        "ErrorChange",
        "ExportResult",
        "FloatNode",
        "HeadChoice",
        "InputParity",
        "LayerSensitivity",
        "Parity",
        "Quantization",
    ),
    "heads": ("ClassMetrics", "ClassWeight", "Head", "HeadOptions", "Metrics", "Optimizer"),
    "histories": ("ChangePoint", "HistoryGroup", "HistoryPoint", "HistoryResult"),
    "listening": ("ListenResult", "SoundEvent"),
    "model": ("GoldenSample", "Manifest"),
    "networks": (
        "Backbone",
        "BackboneInfo",
        "BackboneOptions",
        "ChannelOrder",
        "Features",
        "Fit",
        "GraphInput",
        "InputSpec",
        "Interpolation",
        "Pool",
        "Precision",
        "PreprocessSpec",
        "SoundFit",
        "SoundSpec",
        "SpectrogramSpec",
        "Target",
        "TextSpec",
        "VectorSpec",
    ),
    "options": ("Budgets", "Packaging", "QuantizeOptions", "TrainOptions"),
    "samples": ("Dataset", "Kind", "Problem", "Sample", "Split"),
    "sweeps": ("Sweep", "SweepChoice", "SweepRow"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tledge.schema' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"tledge.schema.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
