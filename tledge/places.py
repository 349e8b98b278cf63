"""Where tledge keeps things, and how a file or folder appears there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tledge.errors import OutputError, TledgeError

_SET = "Set TLEDGE_CACHE_DIR to one."
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)


def at(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a user means it: `~` is a home. Raises TledgeError when no file can have that name."""
    if "\0" in os.fspath(path):
        raise TledgeError(f"A path must not hold a zero byte, found {os.fspath(path)!r}.", "Check the path.")
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody's home: a folder may well be called ~
        return Path(path)


def is_folder(path: Path) -> bool:
    """Tell whether `path` is a folder; what cannot even be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def cache_dir() -> Path:
    """Return the folder of everything tledge keeps: TLEDGE_CACHE_DIR, or the user's cache folder; made when missing."""
    folder = at(os.environ.get("TLEDGE_CACHE_DIR") or _users_cache())
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _users_cache() -> str:
    import platformdirs

    try:
        return platformdirs.user_cache_dir("tledge", appauthor=False)
    except RuntimeError as error:
        raise OutputError("A folder to keep things in is needed, and this user has no home.", _SET) from error


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the system says of a failed write (full disk, no permission) into one line about `target`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_FOLDER:
            reason = "a file stands where a folder is needed"
        raise OutputError(
            f"{target} cannot be written: {reason}.", "Make room there, or choose another place."
        ) from error


# ── May it be written? Asked before the work is done ─────────────────────────────────────────────────────────────────


def check_free_file(target: Path, *, force: bool) -> None:
    """Raise OutputError unless the file `target` may be written: nothing is there, or a file that `force` gives up."""
    with writing(target):
        _check_parent(target)
        if not _is_there(target):
            return
        if not target.is_file():
            kind = "folder" if target.is_dir() else "link or device"
            raise OutputError(f"A file is to be written, and {target} is a {kind}.", "Choose another place.")
    _check_force(target, force)


def check_free_folder(target: Path, *, force: bool, files: Sequence[str]) -> None:
    """Raise OutputError unless the folder `target` may be made: nothing is there, or an empty folder.

    With `force` it may also be one that holds the first of `files`, by which it is known, and none besides `files`:
    what somebody else has put there is not ours to delete.
    """
    with writing(target):
        _check_parent(target)
        if not _is_there(target):
            return
        if not target.is_dir():
            raise OutputError(f"A folder is to be made, and {target} is a file.", "Choose another place.")
        if target.resolve() == Path.cwd():
            raise OutputError(f"A new folder is to be made, and {target} is the current one.", "Name one inside it.")
        found = {entry.name for entry in target.iterdir()}
    if not found:
        return
    if files[0] not in found:
        raise OutputError(
            f"{target} is not empty and holds no {files[0]}: it is not replaced.", "Choose another place."
        )
    if foreign := sorted(found - set(files)):
        raise OutputError(
            f"{target} is not replaced: it also holds '{foreign[0]}', which is no part of it.",
            "Move that away, or choose another place.",
        )
    _check_force(target, force)


def check_apart(target: Path, source: Path) -> None:
    """Raise OutputError when `target` lies in `source` or holds it: what is written must not be read as data later."""
    ours, theirs = Path(os.path.realpath(target)), Path(os.path.realpath(source))  # links in a circle do not raise
    if ours.is_relative_to(theirs):
        raise OutputError(f"{target} lies in {source}, where it would be taken for data.", "Choose another --out.")
    if theirs.is_relative_to(ours):
        raise OutputError(f"{target} holds the data in {source}, so it is not written to.", "Choose another --out.")


def _is_there(target: Path) -> bool:
    try:
        target.lstat()
    except FileNotFoundError:
        return False
    return True


def _check_force(target: Path, force: bool) -> None:
    if not force:
        raise OutputError(f"{target} exists already.", "Choose another place, or replace it with --force.")


def _check_parent(target: Path) -> None:
    """Find out now, not after an hour's work, that nothing can be made beside `target`."""
    parent = next(folder for folder in target.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, f"no right to write in {parent}, or a read-only disk")


# ── Written whole or not at all ──────────────────────────────────────────────────────────────────────────────────────


def write_whole(target: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `target`, then rename it: no reader ever sees half a file."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=_prefix(target), suffix=".tmp")
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


@contextmanager
def whole_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that takes its place on success and vanishes on failure.

    With `force`, a folder that stood at `target` is kept until the new one is complete. Without it, one that another
    process has filled meanwhile is an OutputError.
    """
    target = target.resolve()  # a link to a folder stays, and leads to the new one
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = _beside(target, ".tmp")
        work.chmod(0o777 & ~_umask())
    try:
        with writing(target):
            yield work
            _swap(work, target) if force and target.exists() else work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _swap(work: Path, target: Path) -> None:
    attic = _beside(target, ".old")
    old = target.rename(attic / target.name)
    try:
        work.rename(target)
    except BaseException:
        old.rename(target)
        attic.rmdir()
        raise
    shutil.rmtree(attic, ignore_errors=True)


def _beside(target: Path, suffix: str) -> Path:
    return Path(tempfile.mkdtemp(dir=target.parent, prefix=_prefix(target), suffix=suffix))


def _prefix(target: Path) -> str:
    return f".{target.name[:40]}."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
