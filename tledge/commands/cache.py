"""`tledge cache info|verify|prune`: what is kept, whether it is sound, and making room."""

from __future__ import annotations

from pathlib import Path

from tledge import places
from tledge.commands.sizes import in_bytes
from tledge.features import FeatureStore
from tledge.schema import CacheResult, CacheSpace


def cache_info() -> CacheResult:
    """Say what the cache folder holds."""
    with FeatureStore(places.cache_dir()) as store:
        return _document(store)


def cache_verify() -> CacheResult:
    """Check every kept feature vector against its checksum and drop the damaged ones; `dropped` counts them."""
    with FeatureStore(places.cache_dir()) as store:
        checked, dropped = store.verify()
        return _document(store, checked=checked, dropped=dropped)


def cache_prune(max_size: str | int) -> CacheResult:
    """Drop the least recently used feature vectors until they take at most `max_size`, bytes or like '500M', '2G'."""
    limit = in_bytes(max_size)
    with FeatureStore(places.cache_dir()) as store:
        dropped, dropped_bytes = store.prune(limit)
        return _document(store, dropped=dropped, dropped_bytes=dropped_bytes)


def _document(store: FeatureStore, **counts: int) -> CacheResult:
    folder = store.path.parent
    graphs = [_size(file) for file in (folder / "backbones").glob("*.onnx")]
    spaces = tuple(CacheSpace(*row) for row in store.summary())
    total = sum(_size(file) for file in folder.rglob("*"))
    return CacheResult(1, str(folder), total, len(graphs), sum(graphs), spaces, **counts)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # another run has just moved it
        return 0
