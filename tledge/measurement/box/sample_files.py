"""Sample files to measure with, held in memory: a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tledge import places
from tledge.data.sources.contents import kind_of
from tledge.errors import DataError
from tledge.modalities import Reader

_HEAD_BYTES = 1 << 12  # tell a picture or a sound
_MOST = 64  # that are held in memory


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """Files to measure with, as (name, bytes of the file). `name` says what they are."""

    name: str
    files: tuple[tuple[str, bytes], ...]


def given(path: Path, reader: Reader) -> SampleFiles:
    """Return the file at `path`, or up to 64 of those in a folder that `reader` reads, evenly spread over their names.

    Raises DataError when there is none or one cannot be read.
    """
    files = _in_folder(path, reader) if places.is_folder(path) else [path]
    if not files:
        raise DataError(f"{path} holds no {reader.noun}s.", f"Name a {reader.noun} or a folder of some.")
    chosen = [files[i * len(files) // _MOST] for i in range(_MOST)] if len(files) > _MOST else files
    return SampleFiles(str(path), tuple((str(file), _content(file, reader)) for file in chosen))


def _in_folder(folder: Path, reader: Reader) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return [file for file in files if kind_of(_content(file, reader, _HEAD_BYTES), file.name) == reader.kind]


def _content(file: Path, reader: Reader, most: int = -1) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise DataError(
            f"{reader.noun.capitalize()} {file} cannot be read: {error.strerror}.", "Check the path."
        ) from error
