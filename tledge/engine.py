"""The engine: onnxruntime sessions on the provider that was asked for, and never quietly on another.

Training, serving and measuring open their sessions here, so that all three run a graph in the same way.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge import machine
from tledge.errors import EngineError, ModelError, did_you_mean

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
    `name` is what to call the model in errors. Raises EngineError when onnxruntime is missing or the provider not
    active, ModelError when the graph does not load.
    """
    ort = _onnxruntime()
    wanted = _resolve(provider, ort)
    source, what = model if isinstance(model, bytes) else str(model), name or "The model"
    options = _options(ort, threads or machine.cores(), tune or {})
    try:
        return _start(ort, source, options, wanted, what)
    except EngineError:
        if provider != "auto":
            raise
    return _start(ort, source, options, "cpu", what)


def check(provider: str) -> None:
    """Raise EngineError unless `provider` is one that the installed onnxruntime was built with, or auto."""
    _resolve(provider, _onnxruntime())


def resolve(provider: str, model: Path) -> str:
    """Return which provider `model` really runs on; only `auto` can give another name than it was given.

    Raises EngineError when the provider is not active, also where nothing is left to compute.
    """
    if _resolve(provider, _onnxruntime()) == "cpu":
        return "cpu"
    return active_provider(open_session(model, provider=provider))


def optimised(model: bytes | Path, name: str = "") -> bytes:
    """Return `model` as onnxruntime runs it on the CPU, after it fused what it can; layouts are left as they were.

    Raises EngineError and ModelError as open_session does.
    """
    ort = _onnxruntime()
    source, options = model if isinstance(model, bytes) else str(model), _options(ort, 1, {})
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory(prefix="tledge-") as folder:
        found = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(found)
        _start(ort, source, options, "cpu", name or "The model")
        return found.read_bytes()


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
    # From 1.31 on it would keep an identifier of this device in the user's home, and report over the network.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime as ort

        ort.InferenceSession  # noqa: B018  a half-removed wheel leaves an importable, empty package behind
    except (ImportError, AttributeError) as error:
        hint = "Install it with: pip install 'tledge[cpu]' (or 'tledge[gpu]'); 'tledge doctor' explains."
        if all(_version(name) for name in _WHEELS):
            hint = _BOTH_WHEELS
        raise EngineError(f"onnxruntime is missing or broken ({_first_line(error)}).", hint) from error
    return ort


def _options(ort: Any, threads: int, tune: dict[str, str]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for key, value in tune.items():
        options.add_session_config_entry(key, value)
    return options


def _start(ort: Any, source: bytes | str, options: Any, provider: str, what: str) -> Any:
    """Open a session on `provider`. Raises EngineError when that is not what it runs on, ModelError on the CPU."""
    try:
        # onnxruntime's own fallback would go on with the CPU, and say so on standard output.
        session = ort.InferenceSession(source, options, providers=list(_PROVIDERS[provider]), enable_fallback=False)
    except Exception as error:  # onnxruntime's exception classes share no base but Exception
        if provider == "cpu":
            raise ModelError(f"{what} cannot be loaded: {_first_line(error)}.", "Export it again.") from error
        raise _not_active(provider, ort, f"{what}: {_first_line(error)}") from error
    if session.get_providers()[0] != _PROVIDERS[provider][0]:
        raise _not_active(provider, ort, _find_libraries(ort).partition("\n")[0].rstrip("."))
    return session


def _resolve(provider: str, ort: Any) -> str:
    if provider not in PROVIDERS:
        raise EngineError(f"There is no provider called '{provider}'.", did_you_mean(provider, PROVIDERS))
    available = ort.get_available_providers()
    if provider == "auto":
        provider = "cuda" if _PROVIDERS["cuda"][0] in available else "cpu"
    if _PROVIDERS[provider][0] not in available:
        raise _not_active(provider, ort)
    if provider != "cpu":
        _find_libraries(ort)
    return provider


def _find_libraries(ort: Any) -> str:
    """Load the CUDA and cuDNN libraries that came as wheels, else the system's; return what onnxruntime finds amiss."""
    said = io.StringIO()
    if hasattr(ort, "preload_dlls"):
        ort.set_default_logger_severity(_FATAL)  # what it would log, in colours, is raised as an error by _start
        with contextlib.redirect_stdout(said):  # it would print in the middle of our JSON
            ort.preload_dlls()
    return said.getvalue().strip()


def _not_active(provider: str, ort: Any, reason: str = "") -> EngineError:
    names = {names[0]: short for short, names in _PROVIDERS.items()}
    available = ", ".join(names[full] for full in ort.get_available_providers() if full in names)
    because = f" ({reason})" if reason else ""
    return EngineError(
        f"Provider '{provider}' is not active in this onnxruntime {ort.__version__}, built with {available}{because}.",
        "Install 'tledge[gpu]' alone, check the driver, or use '--provider cpu'; 'tledge doctor' explains.",
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
