"""The engine: onnxruntime sessions on the provider that was asked for, and never quietly on another.

Training, serving and measuring open their sessions here, so that all three run a graph in the same way.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge import machine
from tledge.errors import EngineError, ModelError

if TYPE_CHECKING:
    import onnxruntime

# onnxruntime tries these in order; what a provider cannot run falls to the next one.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
PROVIDERS = (*_PROVIDERS, "auto")
_WHEELS = ("onnxruntime", "onnxruntime-gpu")
_FATAL = 4


def open_session(
    model: bytes | Path,
    *,
    provider: str = "auto",
    threads: int | None = None,
    name: str = "",
    tune: dict[str, str] | None = None,
) -> onnxruntime.InferenceSession:
    """Open an ONNX model (serialized bytes or a path) with `threads` intra-op threads, by default one per core.

    `provider` is cpu, cuda, tensorrt or auto (cuda where it is active, else cpu); `tune` are session config entries.
    The CUDA and TensorRT paths have not been run by this project yet: it was built on machines without a GPU.
    Raises EngineError when onnxruntime is missing or the provider is not active, ModelError when the graph does not load.
    """
    ort = _onnxruntime()
    wanted = _resolve(provider, ort)
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads or machine.cores()
    options.inter_op_num_threads = 1
    for key, value in (tune or {}).items():
        options.add_session_config_entry(key, value)
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = ort.InferenceSession(source, options, providers=list(_PROVIDERS[wanted]))
    except Exception as error:  # onnxruntime's exception classes share no base but Exception
        what = name or (str(model) if isinstance(model, Path) else "The model")
        raise ModelError(
            f"{what} cannot be loaded by onnxruntime: {_first_line(error)}.", "Export it again."
        ) from error
    if session.get_providers()[0] != _PROVIDERS[wanted][0]:
        if provider == "auto":
            return open_session(model, provider="cpu", threads=threads, name=name, tune=tune)
        raise _not_active(wanted, ort)
    return session


def resolve(provider: str, model: Path) -> str:
    """Return which provider `model` would really run on; only `auto` can give another name than it was given.

    Raises EngineError when the provider is not part of the installed onnxruntime.
    """
    wanted = _resolve(provider, _onnxruntime())
    if provider != "auto" or wanted == "cpu":
        return wanted
    return active_provider(open_session(model, provider="auto"))


def active_provider(session: onnxruntime.InferenceSession) -> str:
    """Return the short name (cpu, cuda, tensorrt) of the provider that `session` really runs on."""
    first = session.get_providers()[0]
    return next((short for short, names in _PROVIDERS.items() if names[0] == first), first)


def threads_of(session: onnxruntime.InferenceSession) -> int:
    """Return the number of intra-op threads that `session` was opened with."""
    return session.get_session_options().intra_op_num_threads


def installed() -> dict[str, Any]:
    """Return what `tledge doctor` says of onnxruntime: wheels {name: version}, version, providers, and any problems."""
    wheels = {name: version for name in _WHEELS if (version := _version(name))}
    found: dict[str, Any] = {"wheels": wheels, "version": None, "providers": [], "problems": []}
    if len(wheels) == 2:
        found["problems"].append(_BOTH_WHEELS)
    try:
        ort = _onnxruntime()
    except EngineError as error:
        found["problems"].append(str(error))
        return found
    names = {names[0]: short for short, names in _PROVIDERS.items()}
    found["version"] = ort.__version__
    found["providers"] = [names[full] for full in ort.get_available_providers() if full in names]
    return found


_BOTH_WHEELS = (
    "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files. Remove both with "
    "'pip uninstall onnxruntime onnxruntime-gpu', then install one: 'tledge[cpu]' or 'tledge[gpu]'."
)


def _onnxruntime() -> Any:
    try:
        import onnxruntime as ort

        ort.InferenceSession  # noqa: B018  a half-removed wheel leaves an importable, empty package behind
    except (ImportError, AttributeError) as error:
        hint = "Install it with: pip install 'tledge[cpu]' (or 'tledge[gpu]'); 'tledge doctor' explains."
        if all(_version(name) for name in _WHEELS):
            hint = _BOTH_WHEELS
        raise EngineError(f"onnxruntime is missing or broken ({_first_line(error)}).", hint) from error
    return ort


def _resolve(provider: str, ort: Any) -> str:
    if provider not in PROVIDERS:
        raise EngineError(f"Provider must be one of {', '.join(PROVIDERS)}, got '{provider}'.")
    available = ort.get_available_providers()
    if provider == "auto":
        provider = "cuda" if _PROVIDERS["cuda"][0] in available else "cpu"
    if _PROVIDERS[provider][0] not in available:
        raise _not_active(provider, ort)
    if provider != "cpu" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds the CUDA and cuDNN libraries that came as wheels
    return provider


def _not_active(provider: str, ort: Any) -> EngineError:
    names = {names[0]: short for short, names in _PROVIDERS.items()}
    available = ", ".join(names[full] for full in ort.get_available_providers() if full in names)
    return EngineError(
        f"Provider '{provider}' is not active in this onnxruntime {ort.__version__} (built in: {available}).",
        "Install 'tledge[gpu]' alone, check the driver, or use '--provider cpu'; 'tledge doctor' explains.",
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
