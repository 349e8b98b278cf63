"""Files → Dataset: find samples and labels, split them, fingerprint them. One file per source; see `sources`."""

from __future__ import annotations

from tledge.data.dataset import drop, load, load_labelled, stamp

__all__ = ["drop", "load", "load_labelled", "stamp"]
