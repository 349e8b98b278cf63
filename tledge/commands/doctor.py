"""`tledge doctor`: what is installed, what works, and what to mend."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

from tledge import __version__, engine, machine, native, places
from tledge.errors import OutputError
from tledge.schema import DoctorResult

_PACKAGES = ("numpy", "pillow", "onnx", "tensorflow", "keras", "tf2onnx", "jinja2", "matplotlib")


def doctor() -> DoctorResult:
    """Look at this machine and this installation; `problems` says what to mend, one line each."""
    runtime = engine.installed()
    problems = list(runtime.pop("problems"))
    folder, free = "", 0
    try:
        place = places.cache_dir()
        folder, free = str(place), shutil.disk_usage(place).free
        _try_writing(place)
    except OutputError as error:
        problems.append(str(error))
    return DoctorResult(
        schema_version=1,
        passed=not problems,
        tledge_version=__version__,
        machine=machine.describe(),
        onnxruntime=runtime,
        packages={name: _version(name) for name in _PACKAGES},
        kernels={name: native.variant(name) for name in native.KERNELS},
        cache_dir=folder,
        cache_free_bytes=free,
        problems=tuple(problems),
    )


def _try_writing(folder: Path) -> None:
    trial = folder / ".doctor"
    places.write_whole(trial, b"")
    trial.unlink(missing_ok=True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
