"""Which onnxruntime is installed here: whether it loads, with which providers it was built, and what is amiss."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from tledge import placement
from tledge.errors import EngineError

_WHEELS = ("onnxruntime", "onnxruntime-gpu")
_BOTH_WHEELS = (
    "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files. Remove both with "
    "'pip uninstall onnxruntime onnxruntime-gpu', then install one: 'tledge[cpu]' or 'tledge[gpu]'."
)


def load() -> Any:
    """Return the module onnxruntime. Raises EngineError when it is missing or broken."""
    # From 1.31 on it would keep an identifier of this device in the user's home, and report over the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime as ort

        ort.InferenceSession  # noqa: B018  a half-removed wheel leaves an importable, empty package behind
    except (ImportError, AttributeError) as error:
        hint = "Install it with: pip install 'tledge[cpu]' (or 'tledge[gpu]'); 'tledge doctor' explains."
        if all(_version(name) for name in _WHEELS):
            hint = _BOTH_WHEELS
        raise EngineError(f"onnxruntime is missing or broken ({first_line(error)}).", hint) from error
    return ort


def describe() -> dict[str, Any]:
    """Return what `tledge doctor` says of onnxruntime: wheels {name: version}, version, providers, and any problems."""
    wheels = {name: version for name in _WHEELS if (version := _version(name))}
    found: dict[str, Any] = {"wheels": wheels, "version": None, "providers": [], "problems": []}
    if len(wheels) == 2:
        found["problems"].append(_BOTH_WHEELS)
    try:
        ort = load()
    except EngineError as error:
        found["problems"].append(str(error))
        return found
    return {**found, "version": ort.__version__, "providers": providers(ort)}


def providers(ort: Any) -> list[str]:
    """Return the short names of the providers that `ort` was built with and tledge knows."""
    names = (placement.short(full) for full in ort.get_available_providers())
    return [name for name in names if name in placement.PREFERENCE]


def first_line(error: BaseException) -> str:
    """Return what `error` says, without its further lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
