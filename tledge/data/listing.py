"""What a source of data found, before labels are numbered and splits are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tledge.schema import Kind, Problem, Split

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One usable sample, the names of its classes, and its split where the source names one.

    `digest` is the SHA-256, in hex, of the file's bytes or of `value` (see `Sample`). `place` is where the source says
    all this, when that is not `path`: `labels.csv line 17`. `columns` is what else a table says of it.
    """

    path: str
    class_names: tuple[str, ...]
    split: Split | None
    digest: str
    value: np.ndarray | str | None = None
    group: str | None = None
    place: str = ""
    columns: dict[str, str] | None = None
    kind: Kind = "image"
    part: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The usable samples of a source in an order that depends on their names only, and what was left out.

    `classes` are the class names in the source's own order, empty when it has none. `notes` say what was converted;
    `remarks` are on items that deserve a look; `columns` are the names of the numbers of vectors, where they have any.
    """

    items: tuple[Item, ...]
    skipped: tuple[Problem, ...] = ()
    classes: tuple[str, ...] = ()
    multilabel: bool = False
    notes: tuple[str, ...] = ()
    remarks: tuple[Problem, ...] = ()
    columns: tuple[str, ...] = ()
