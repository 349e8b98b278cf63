"""Where tledge keeps things, and how a file or folder appears there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tledge.errors import OutputError


def cache_dir() -> Path:
    """Return the folder of everything tledge keeps: TLEDGE_CACHE_DIR, or the user's cache folder; made when missing."""
    chosen = os.environ.get("TLEDGE_CACHE_DIR")
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_cache_dir("tledge", appauthor=False)
    folder = Path(chosen).expanduser()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the system says of a failed write (full disk, no permission) into one line about `target`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{target} cannot be written: {reason}.", "Make room there, or choose another place."
        ) from error


def write_whole(target: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `target`, then rename it: no reader ever sees half a file."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def check_free(target: Path, *, force: bool, owned_by: str = "") -> None:
    """Raise OutputError unless `target` may be written: it is not there, an empty folder, or `force` is given.

    With `owned_by`, a folder is replaced under `force` only when it holds that file: nobody's home is a run folder.
    """
    if not target.exists() or (target.is_dir() and owned_by and not any(target.iterdir())):
        return
    if target.is_dir() != bool(owned_by):
        kind = "folder" if target.is_dir() else "file"
        raise OutputError(f"{target} is a {kind} already.", "Choose another --out.")
    if owned_by and not (target / owned_by).is_file():
        raise OutputError(
            f"{target} is not empty and holds no {owned_by}, so it is not replaced.", "Choose another --out."
        )
    if not force:
        raise OutputError(f"{target} exists already.", "Choose another --out, or replace it with --force.")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that takes its place on success and vanishes on failure.

    A folder that stood at `target` is kept until the new one is complete.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".tmp"))
        work.chmod(0o777 & ~_umask())
    try:
        with writing(target):
            yield work
            _swap(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _swap(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".old"))
    target.rename(old / target.name)
    work.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
