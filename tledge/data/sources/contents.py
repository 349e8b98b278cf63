"""Look into files: of what kind is it, and what is its digest? Each file is opened and read once, several at a time."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tledge.errors import DataError
from tledge.modalities import READERS, text
from tledge.schema import Kind
from tledge.sound_formats import is_sound

_CHUNK_BYTES = 1 << 20
_FILES_PER_TASK = 32
_TEXT = ".txt"
_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF, and with 64-bit offsets
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)


class Content(NamedTuple):
    """The SHA-256 of a file in hex and its kind, or the `reason` why it is no sample."""

    digest: str
    kind: Kind = "image"
    reason: str = ""


def is_picture(head: bytes) -> bool:
    """Tell by the first 18 bytes of a file whether it is a JPEG, PNG, GIF, TIFF, WebP or BMP, whatever its name."""
    if head.startswith(_SIGNATURES):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none when it cannot be listed."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def kind_of(head: bytes, name: str) -> Kind | None:
    """Return the kind of sample that begins with `head` in a file called `name`; None when it is none.

    Contents tell pictures and sounds; nothing but its name tells that a file is text.
    """
    if is_picture(head):
        return "image"
    if is_sound(head):
        return "audio"
    return "text" if name.lower().endswith(_TEXT) else None


def look_into(path: str) -> Content:
    """Return the content of a regular file."""
    try:
        with io.FileIO(path) as file:
            return _look_into(file, path)
    except OSError as error:
        return Content("", reason=f"cannot be read ({error.strerror})")


def _look_into(file: io.FileIO, path: str) -> Content:
    chunk = file.read(_CHUNK_BYTES)
    kind = kind_of(chunk, path)
    if not chunk or kind is None:
        return Content("", reason="not a picture, a sound or a text" if chunk else "empty file (0 bytes)")
    if kind == "text":
        return _text(chunk + file.readall())
    digest = hashlib.sha256()
    while chunk:
        digest.update(chunk)
        chunk = file.read(_CHUNK_BYTES)
    return Content(digest.hexdigest(), kind)


def _text(content: bytes) -> Content:
    try:
        blank = not text.decode(content).strip()
    except DataError as error:
        return Content("", "text", error.message)
    return Content("", "text", "the text is empty") if blank else Content(hashlib.sha256(content).hexdigest(), "text")


def of_one_kind(contents: Sequence[Content]) -> list[Content]:
    """Return `contents`, in which the files of all kinds but the most frequent one have a reason to be left out.

    A folder of pictures may hold a read-me; text is told by its name alone, so it counts where there is nothing else.
    """
    kinds = [each.kind for each in contents if each.digest]
    chief = max(kinds, key=lambda kind: (kind != "text", kinds.count(kind)), default="image")
    nouns = {kind: READERS[kind].noun for kind in {*kinds, chief}}
    return [
        each
        if not each.digest or each.kind == chief
        else Content("", each.kind, f"a {nouns[each.kind]} among {nouns[chief]}s")
        for each in contents
    ]


def look_into_all(paths: Sequence[str]) -> list[Content]:
    """Return `look_into` of each path; reading and hashing let go of the interpreter's lock, so threads help."""
    tasks = [paths[start : start + _FILES_PER_TASK] for start in range(0, len(paths), _FILES_PER_TASK)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [outcome for outcomes in pool.map(_task, tasks) for outcome in outcomes]


def _task(paths: Sequence[str]) -> list[Content]:
    return [look_into(path) for path in paths]
