"""`tledge doctor`: what is installed, what works, and what to mend."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

from tledge import __version__, gpu, installation, machine, native, places
from tledge.errors import OutputError, TledgeError
from tledge.schema import DoctorResult

_TRIAL_BYTES = 1 << 16  # an empty file fits on a full disk
_PACKAGES = (
    "numpy",
    "pillow",
    "simplejpeg",
    "onnx",
    "tensorflow",
    "keras",
    "tf2onnx",
    "jinja2",
    "pygal",
    "mlcommons-loadgen",
)


def doctor() -> DoctorResult:
    """Look at this machine and this installation; `problems` says what to mend, one line each."""
    runtime = installation.describe()
    problems = list(runtime.pop("problems"))
    folder, free = "", 0
    try:
        place = places.cache_dir()
        folder, free = str(place), shutil.disk_usage(place).free
        _try_writing(place)
    except OutputError as error:
        problems.append(str(error))
    kernels = _kernels(problems)
    return DoctorResult(
        schema_version=1,
        passed=not problems,
        tledge_version=__version__,
        machine=machine.describe(),
        onnxruntime=runtime,
        packages={name: _version(name) for name in _PACKAGES},
        kernels=kernels,
        cache_dir=folder,
        cache_free_bytes=free,
        problems=tuple(problems),
        gpu=gpu.name(),
    )


def _try_writing(folder: Path) -> None:
    trial = folder / ".doctor"
    places.write_whole(trial, bytes(_TRIAL_BYTES))
    trial.unlink(missing_ok=True)


def _kernels(problems: list[str]) -> dict[str, str]:
    try:
        return {name: native.chosen(name) for name in native.KERNELS}
    except TledgeError as error:
        problems.append(str(error))
        return {}


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):  # tensorflow-cpu is tensorflow
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
