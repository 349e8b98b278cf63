"""The rows of `benchmarks.precision`: a backbone on a data set, and how accurate any int8 graph of it is there.

Everything happens in one process, with the functions that `tledge train` and `tledge export` call. Features are kept,
so that a graph runs over a data set once, whatever is asked about it.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import processes
from benchmarks.precision_shelf import KERAS, TEST_FRACTION, Shelf
from tledge import data, heads, machine, model
from tledge.commands import pipeline
from tledge.features import FeatureStore, extract
from tledge.model.precision import calibration_pictures
from tledge.schema import Backbone, CalibrationError, Dataset, Features, Head, HeadOptions, Sample

FOLDS = 4


class Judged(NamedTuple):
    """What a graph gives for the samples of a row, each tested once, by heads that were fitted without its fold.

    `own` and `refitted` bool [n]: is the float model's head right, and is it when fitted again to this graph? `error`:
    the squared error of the features, over the squared features of the float graph.
    """

    own: np.ndarray
    refitted: np.ndarray
    error: float


@dataclass(frozen=True)
class Row:
    """One backbone on one data set."""

    shelf: Shelf
    name: str
    data: str
    part: int = 0

    @property
    def title(self) -> str:
        """What to call it: `efficientnet_lite0 on elpv`, and what else one must know."""
        size = self.backbone.preprocess.height
        weights = ", random weights" if self.name in KERAS else ""
        return f"{self.name.removesuffix('.onnx')} at {size} px{weights} on {self.data}"

    @functools.cached_property
    def backbone(self) -> Backbone:
        """The float backbone."""
        return self.shelf.backbone(self.name, self.data)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The samples."""
        return self.shelf.dataset(self.data, self.part)

    @functools.cached_property
    def exact(self) -> Features:
        """What the float backbone makes of all samples."""
        return self.features(self.backbone)

    @functools.cached_property
    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The rows that a head is fitted to and those that it is tested on, fold by fold."""
        assigned = data.folds.assign(self.exact.samples, FOLDS, self.part)
        return [(np.flatnonzero(assigned != each), np.flatnonzero(assigned == each)) for each in range(FOLDS)]

    @functools.cached_property
    def heads(self) -> list[Head]:
        """The float model's head of each fold; their strength is chosen on the first."""
        processes.say(f"{self.title}: fitting heads to float features")
        first, *others = (pipeline.rows(self.exact, train) for train, _ in self.folds)
        head = heads.fit("linear", first, self.dataset.classes, HeadOptions(), 0)
        return [head, *(heads.refit(head, each) for each in others)]

    @functools.cached_property
    def pictures(self) -> tuple[list[Sample], list[Sample]]:
        """The training samples that everybody calibrates on, and others to choose a setting by."""
        return calibration_pictures.part(self.dataset.train)

    def features(self, graph: Backbone) -> Features:
        """Return what `graph` makes of all samples."""
        return self.extract(graph, (*self.dataset.train, *self.dataset.test))

    def extract(self, graph: Backbone, samples: Sequence[Sample]) -> Features:
        """Return what `graph` makes of `samples`, from the shelf where it has it."""
        with FeatureStore(self.shelf.cache) as store:
            return extract(samples, graph, store)

    def quantized(self, per_channel: bool = True) -> tuple[Backbone, CalibrationError]:
        """Return the int8 backbone that `tledge export --calibration auto` makes, and what it chose."""
        rounding = model.Rounding(per_channel, machine.saturates_int8())
        chosen, errors = model.quantize_best(self.backbone, self.dataset.train, self.shelf.cache, rounding)
        return chosen, errors[0]

    def as_graph(self, path: Path) -> Backbone:
        """Return the int8 graph in the file `path` as this row's backbone."""
        return replace(self.backbone, path=path, digest=hashlib.sha256(path.read_bytes()).hexdigest(), precision="int8")

    def judge(self, graph: Backbone) -> Judged:
        """Return how `graph` does with the heads of the float model, and with those fitted again as export does it."""
        processes.say(f"{self.title}: judging {graph.path.name}")
        found = self.features(graph)
        own, refitted = (np.zeros(len(found.samples), bool) for _ in range(2))
        for head, (train, test) in zip(self.heads, self.folds, strict=True):
            again = heads.refit(head, pipeline.rows(self.exact, train), pipeline.rows(found, train))
            tested = pipeline.rows(found, test)
            own[test], refitted[test] = _right(head, tested), _right(again, tested)
        return Judged(own, refitted, _error(found, self.exact))

    @functools.cached_property
    def float_judged(self) -> Judged:
        """The float graph itself. That its heads are fitted again tells what this alone does."""
        return self.judge(self.backbone)

    def error(self, graph: Backbone) -> float:
        """Return the error of the features of the samples that settings are chosen by."""
        others = self.pictures[1]
        return _error(self.extract(graph, others), self.extract(self.backbone, others))

    def run(self) -> Path:
        """Return the run folder that `tledge train` makes of this row."""
        run = self.shelf.folder / f"run-{Path(self.name).stem}-{self.data}-{self.part}"
        if not run.exists():
            processes.say(f"{self.title}, split {self.part}: training")
            split = ("--seed", str(self.part), "--test-fraction", str(TEST_FRACTION))
            path, words = self.shelf.path(self.data, self.part), self.shelf.words(self.name, self.data)
            processes.run(processes.tledge("train", path, "--out", run, "--json", *split, *words), self.shelf.cache)
        return run


def rows(shelf: Shelf) -> Iterator[Row]:
    """Yield every backbone on every data set, first part."""
    for name in shelf.backbones:
        for dataset in shelf.data:
            yield Row(shelf, name, dataset)


def _right(head: Head, features: Features) -> np.ndarray:
    """Return bool [n]: is `head` right?"""
    return heads.probabilities(head, features.matrix).argmax(axis=1) == heads.labels(features.samples)


def _error(found: Features, exact: Features) -> float:
    matrix = exact.matrix.astype(np.float64)
    return float(np.square(found.matrix - matrix).sum() / np.square(matrix).sum())


def points(right: np.ndarray, other: np.ndarray) -> float:
    """Return by how many points of accuracy `right` bool [n] is ahead of `other`."""
    return 100 * float(right.mean() - other.mean())


def only(right: np.ndarray, other: np.ndarray) -> int:
    """Return how many samples `right` alone is right about."""
    return int((right & ~other).sum())


def chance(ahead: int, behind: int) -> float:
    """Return how probable it is that of so many samples that two models differ on, `ahead` or more fall to one of them.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions, 1947; exact form, one
    side.
    """
    count = ahead + behind
    return sum(math.comb(count, k) for k in range(ahead, count + 1)) / 2**count
