"""What comes in: samples, their labels and splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Split = Literal["train", "val", "test"]
Kind = Literal["image", "vector", "audio", "text"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled sample of modality `kind`. `digest` is the SHA-256, in hex, of the file's bytes or of `value`.

    `label` indexes `Dataset.classes`; of a multi-label set it is the first of `labels`, or -1 where there is none.
    `value` is what the sample is when it is no file: a picture, uint8 [height, width, 3] or [height, width], a vector,
    float32 [length], or a text; `path` then names its place, as in `digits.npz[x_train][17]`. Samples of one `group` (a
    patient, a machine) stay on one side of every split. `view` names an augmentation, "" is the sample as it is. Of a
    longer sound, `part` is from where to where it goes in seconds; `whole` names what it is a window of: windows of one
    whole are decided together.
    """

    path: str
    label: int
    digest: str
    labels: tuple[int, ...] = ()
    group: str | None = None
    value: np.ndarray | str | None = field(default=None, compare=False, repr=False)
    view: str = ""
    kind: Kind = "image"
    part: tuple[float, float] | None = None
    whole: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was left out, or that deserves a look, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled samples in three splits, the class names in the order of their labels, and what was left out.

    `skipped` are files that cannot be used; `conflicts` are samples that stand under two labels, `remarks` are on
    sounds that are silent or clipped: both are used. `fingerprint` is a digest over class names and (digest, part,
    label, split) of every sample, independent of paths and of their order. In a `multilabel` set a sample has any
    number of labels. `notes` say what was converted on reading, `columns` what the numbers of vectors are called.
    """

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    skipped: tuple[Problem, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    fingerprint: str = ""
    multilabel: bool = False
    notes: tuple[str, ...] = ()
    remarks: tuple[Problem, ...] = ()
    columns: tuple[str, ...] = ()
