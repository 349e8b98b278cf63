"""The sources of data, one line each. A new one is a file with `accepts` and `scan`, and its line here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from tledge.data.listing import Listing
from tledge.data.sources import arrays, cifar, class_folders, idx, number_table, table, text_table
from tledge.errors import DataError

# The first that accepts a path reads it; a folder of samples is any folder, so it stands last.
SOURCES: tuple[ModuleType, ...] = (
    text_table,  # text,label[,split][,group] as .csv, .tsv, .jsonl, .ndjson or .parquet
    number_table,  # columns of numbers beside label[,split][,group], as the same
    table,  # path,label[,split][,group] as the same; any other table is refused here
    arrays,  # x_train, y_train, … in .npz
    idx,  # a folder of train-images-idx3-ubyte.gz, …
    cifar,  # a folder of data_batch_1, … or data_batch_1.bin, …
    class_folders,  # DIR/class/… and DIR/train|val|test/class/…
)


def read(path: str | Path) -> Listing:
    """List the samples at `path` through the first source that accepts it.

    Raises DataError when there is nothing at `path`, nothing that any source reads, or no usable sample in it.
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
        f"Data must be a folder, or a file .csv, .tsv, .jsonl, .ndjson, .parquet or .npz; {path} is neither.",
        "Name a folder that holds one folder of samples per class, for instance.",
    )
