"""The sources of data, one line each. A new one is a file with `accepts` and `scan`, and its line here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from tledge.data import image_folder
from tledge.data.listing import Listing
from tledge.errors import DataError

SOURCES: tuple[ModuleType, ...] = (
    image_folder,  # DIR/class/… and DIR/train|val|test/class/…
)


def read(path: str | Path) -> Listing:
    """List the pictures at `path` through the first source that accepts it.

    Raises DataError when there is nothing at `path`, nothing that any source reads, or no usable picture in it.
    """
    path = Path(path)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"Data not found at {path} ({reason}).", "Check the path.") from error
    for source in SOURCES:
        if source.accepts(path):
            return source.scan(path)
    raise DataError(
        f"Data must be a folder; {path} is none.", "Name a folder that holds one folder of pictures per class."
    )
