"""The engine: onnxruntime sessions on the provider that was asked for, and never quietly on another.

Training, serving and measuring open their sessions here, so that all three run a graph in the same way. The CUDA and
TensorRT paths have not been run by this project yet: it was built on machines without a GPU.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge import machine, outline, placement, tensorrt
from tledge.errors import EngineError, ModelError, did_you_mean
from tledge.installation import first_line, providers
from tledge.installation import load as _onnxruntime
from tledge.schema import NodeElsewhere

if TYPE_CHECKING:
    import onnxruntime

# onnxruntime tries these in order; what a provider cannot run falls to the next one.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
PROVIDERS = (*_PROVIDERS, "auto")
# On the CPU onnxruntime joins an addition and the LayerNormalization behind it into an operator of its own that takes
# five times as long as both (onnxruntime 1.31, 32 × 384 numbers on one core with AVX-512: 65 against 12 µs).
ON_CPU = {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}
# Session config entries for `tune`, by what a box is for, each there because it helped (benchmarks/presets.py).
# onnxruntime's own are fastest where the box does nothing else, but its threads spin for longer than most pauses, on a
# whole core. `paused` ends that after 1 ms (onnxruntime before 1.26 ignores it), `small` at once, for other work.
PRESETS: dict[str, dict[str, str]] = {
    "busy": {},
    "paused": {"session.intra_op.spin_duration_us": "1000"},
    "small": {"session.intra_op.allow_spinning": "0"},
}
_LOG = logging.getLogger("tledge")
_FATAL = 4
# How many threads all sessions of this process share, if they do.
_shared: int | None = None


def open_session(
    model: bytes | Path,
    *,
    provider: str = "auto",
    threads: int | None = None,
    name: str = "",
    tune: dict[str, str] | None = None,
    batch: int = 1,
) -> onnxruntime.InferenceSession:
    """Open an ONNX model (serialized bytes or a path) with `threads` intra-op threads, by default one per core.

    `provider` is cpu, cuda, tensorrt, or one of the latter and where nodes may go that it cannot run (`cuda,cpu`). auto
    is `cuda,cpu` where cuda is active, else cpu; which nodes went elsewhere is a warning of the logger `tledge`. `tune`
    are session config entries, `name` is what to call the model in errors, `batch` how many samples run at a time, for
    which TensorRT builds its engine. Raises EngineError when onnxruntime is missing, the provider not active, or a node
    would run where it may not; ModelError when the graph does not load.
    """
    ort = _onnxruntime()
    wanted, allowed = _asked(provider, ort)
    what = name or "The model"
    options = _options(ort, threads or machine.cores(), tune or {})
    try:
        if wanted != "cpu":
            return _start_on_gpu(ort, model, options, wanted, allowed, what, batch)
    except EngineError:
        if provider != "auto":
            raise
    return _start(ort, model, options, "cpu", {}, what)


def share_threads(threads: int) -> bool:
    """Let all sessions of this process run on the same `threads` threads; return whether this onnxruntime can do that.

    Must come before the first session of the process. What `threads` other calls ask for has no effect from then on.
    """
    global _shared
    ort = _onnxruntime()
    if not hasattr(ort, "set_global_thread_pool_sizes"):
        return False
    ort.set_default_logger_severity(_FATAL)  # it would warn of every session that its own number is ignored
    ort.set_global_thread_pool_sizes(threads, 1)
    _shared = threads
    return True


def check(provider: str) -> None:
    """Raise EngineError unless `provider` is one that the installed onnxruntime was built with, or auto."""
    _asked(provider, _onnxruntime())


def resolve(provider: str, model: Path) -> str:
    """Return where `model` really runs, in the words of `open_session`; only `auto` gives others than it was given.

    Raises EngineError when the provider is not active, also where nothing is left to compute.
    """
    if _asked(provider, _onnxruntime())[0] == "cpu":
        return "cpu"
    return resolved(provider, open_session(model, provider=provider))


def resolved(provider: str, session: onnxruntime.InferenceSession) -> str:
    """Return what to ask for in place of `provider`, so that another model runs where `session` does, or not at all."""
    wanted, allowed = _asked(provider, _onnxruntime())
    return "cpu" if active_provider(session) == "cpu" else ",".join((wanted, *allowed))


def optimised(model: bytes | Path, name: str = "") -> bytes:
    """Return `model` as onnxruntime runs it on the CPU, after it fused what it can; layouts are left as they were.

    Raises EngineError and ModelError as open_session does.
    """
    ort = _onnxruntime()
    options = _options(ort, 1, {})
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory(prefix="tledge-") as folder:
        found = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(found)
        _start(ort, model, options, "cpu", {}, name or "The model")
        return found.read_bytes()


def metadata(session: Any) -> dict[str, str]:
    """Return the metadata of the file that `session` runs."""
    return session.get_modelmeta().custom_metadata_map


def active_provider(session: onnxruntime.InferenceSession) -> str:
    """Return the short name (cpu, cuda, tensorrt) of the provider that `session` really runs on."""
    return placement.short(session.get_providers()[0])


def nodes_elsewhere(session: onnxruntime.InferenceSession, model: bytes) -> tuple[NodeElsewhere, ...] | None:
    """Return which nodes of `session`, opened here from the serialized `model`, run elsewhere than on its provider.

    None where onnxruntime is older than 1.24, which does not tell.
    """
    wanted = active_provider(session)
    nodes = () if wanted == "cpu" else placement.assigned(session)
    return None if nodes is None else placement.elsewhere(nodes, outline.read(model), wanted)


def threads_of(session: onnxruntime.InferenceSession) -> int:
    """Return the number of intra-op threads that `session` was opened with."""
    return _shared or session.get_session_options().intra_op_num_threads


def _asked(provider: str, ort: Any) -> tuple[str, tuple[str, ...]]:
    """Return the provider that `provider` wants, its libraries loaded, and where nodes may go that it cannot run."""
    available = ort.get_available_providers()
    words = provider
    if provider == "auto":
        words = "cuda,cpu" if _PROVIDERS["cuda"][0] in available else "cpu"
    wanted, *allowed = words.split(",")
    if wanted not in _PROVIDERS:
        raise EngineError(f"There is no provider called '{wanted}'.", did_you_mean(wanted, PROVIDERS))
    behind = [placement.short(name) for name in _PROVIDERS[wanted][1:]]
    if allowed != [name for name in behind if name in allowed]:
        may = f"what {wanted} cannot run may go to {', '.join(behind)}, in that order" if behind else "the cpu runs all"
        raise EngineError(f"'{provider}' is no provider: {may}.", f"Use '--provider {wanted}'.")
    if _PROVIDERS[wanted][0] not in available:
        raise _not_active(wanted, ort)
    if wanted != "cpu":
        _find_libraries(ort)
    return wanted, tuple(allowed)


def _options(ort: Any, threads: int, tune: dict[str, str]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    if _shared:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    for key, value in tune.items():
        options.add_session_config_entry(key, value)
    return options


def _start_on_gpu(
    ort: Any, model: bytes | Path, options: Any, wanted: str, allowed: tuple[str, ...], what: str, batch: int
) -> Any:
    """Open a session on `wanted`. Raises EngineError when it runs elsewhere, or nodes of it where they may not."""
    options.add_session_config_entry(placement.RECORD, "1")
    content = model if isinstance(model, bytes) else _content(model, what)
    outlined = outline.read(content)
    if wanted != "tensorrt":
        session = _start(ort, model, options, wanted, {}, what)
        _check_placement(session, outlined, wanted, allowed, what, ort)
        return session
    kept = tensorrt.engines(content, outlined.precision, ort.__version__)
    with tensorrt.announced(kept, what):
        session = _start(ort, model, options, wanted, kept.options, what)
        _check_placement(session, outlined, wanted, allowed, what, ort)
        tensorrt.run_once(session, batch)
    return session


def _start(ort: Any, model: bytes | Path, options: Any, provider: str, own: dict[str, str], what: str) -> Any:
    """Open a session on `provider` with its `own` options.

    Raises EngineError when that is not what it runs on, ModelError on the CPU.
    """
    source = model if isinstance(model, bytes) else str(model)
    first, *behind = _PROVIDERS[provider]
    for key, value in (ON_CPU if provider == "cpu" else {}).items():
        options.add_session_config_entry(key, value)
    try:
        # onnxruntime's own fallback would go on with the CPU, and say so on standard output.
        session = ort.InferenceSession(source, options, providers=[(first, own), *behind], enable_fallback=False)
    except Exception as error:  # onnxruntime's exception classes share no base but Exception
        if provider == "cpu":
            raise ModelError(f"{what} cannot be loaded: {first_line(error)}.", "Export it again.") from error
        raise _not_active(provider, ort, f"{what}: {first_line(error)}") from error
    if session.get_providers()[0] != first:
        raise _not_active(provider, ort, _find_libraries(ort).partition("\n")[0].rstrip("."))
    return session


def _check_placement(
    session: Any, outlined: outline.Outline, wanted: str, allowed: tuple[str, ...], what: str, ort: Any
) -> None:
    nodes = placement.assigned(session)
    if nodes is None:
        if not allowed:
            raise EngineError(
                f"Whether all nodes run on {wanted} is told by onnxruntime from 1.24 on, found {ort.__version__}.",
                f"Update it, or let nodes go elsewhere with '--provider {wanted},cpu'.",
            )
        return
    found = placement.elsewhere(nodes, outlined, wanted)
    placement.check(nodes, found, wanted, allowed, what)
    if found:
        share, which = f"{len(found)} of its {len(nodes)} nodes", placement.listed(found)
        _LOG.warning("%s runs %s elsewhere than on %s: %s.", what, share, wanted, which)


def _content(model: Path, what: str) -> bytes:
    try:
        return model.read_bytes()
    except OSError as error:
        raise ModelError(f"{what} cannot be loaded: {error.strerror}.", "Check the path.") from error


def _find_libraries(ort: Any) -> str:
    """Load the CUDA and cuDNN libraries that came as wheels, else the system's; return what onnxruntime finds amiss."""
    said = io.StringIO()
    if hasattr(ort, "preload_dlls"):
        ort.set_default_logger_severity(_FATAL)  # what it would log, in colours, is raised as an error by _start
        with contextlib.redirect_stdout(said):  # it would print in the middle of our JSON
            ort.preload_dlls()
    return said.getvalue().strip()


def _not_active(provider: str, ort: Any, reason: str = "") -> EngineError:
    because = f" ({reason})" if reason else ""
    return EngineError(
        f"Provider '{provider}' is not active in this onnxruntime {ort.__version__}, "
        f"built with {', '.join(providers(ort))}{because}.",
        "Install 'tledge[gpu]' alone, check the driver, or use '--provider cpu'; 'tledge doctor' explains.",
    )
