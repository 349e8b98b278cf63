"""tledge: from a folder of labelled photos to a verified, quantized model file on an edge box.

Each command of the command line is a function here by the same name (but for `list_backbones`, since `backbones` is a
package); nothing heavy is imported until one is called.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "train": "tledge.commands.train",
    "compare": "tledge.commands.compare",
    "replay": "tledge.commands.train",
    "export": "tledge.commands.export",
    "evaluate": "tledge.commands.evaluate",
    "predict": "tledge.commands.predict",
    "listen": "tledge.commands.listen",
    "sign": "tledge.commands.sign",
    "verify": "tledge.commands.verify",
    "bench": "tledge.commands.bench",
    "bench_history": "tledge.commands.bench_history",
    "bench_schema": "tledge.commands.bench_schema",
    "list_backbones": "tledge.commands.backbones",
    "cache_info": "tledge.commands.cache",
    "cache_verify": "tledge.commands.cache",
    "cache_prune": "tledge.commands.cache",
    "doctor": "tledge.commands.doctor",
    "Predictor": "tledge.runtime",
    "TledgeError": "tledge.errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tledge' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
