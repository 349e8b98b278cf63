"""Files → Dataset: find samples and labels, split them, fingerprint them. One file per source; see `sources`."""

from __future__ import annotations

from tledge.data import folds
from tledge.data.balance import class_counts, describe, imbalance
from tledge.data.dataset import load, load_labelled
from tledge.data.parts import expand
from tledge.data.revise import drop, stamp

__all__ = ["class_counts", "describe", "drop", "expand", "folds", "imbalance", "load", "load_labelled", "stamp"]
