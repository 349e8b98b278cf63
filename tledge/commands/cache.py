"""`tledge cache info|verify|prune`: what is kept, whether it is sound, and making room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tledge import places, tensorrt
from tledge.backbones import kept_backbones
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
    """Drop what was least recently used until the rest takes at most `max_size`, bytes or like '500M', '2G'.

    That is feature vectors, graphs in int8 and fp16, and TensorRT's engines: all is made again when it is needed.
    Converted backbones stay. Raises OutputError when something cannot be removed.
    """
    limit = in_bytes(max_size)
    with FeatureStore(places.cache_dir()) as store:
        files, files_bytes, left = _prune_files(store, limit)
        dropped, dropped_bytes = store.prune(limit - left)
        counts = {"dropped": dropped, "dropped_bytes": dropped_bytes + files_bytes, "dropped_files": files}
        return _document(store, **counts)


def _prune_files(store: FeatureStore, limit: int) -> tuple[int, int, int]:
    """Drop the files that do not fit beside all that was used later; return how many, their bytes, and those left."""
    dropped = dropped_bytes = left = 0
    for used, size, path in sorted(_files(store.path.parent), reverse=True):
        if left + size + store.bytes_since(used) <= limit:
            left += size
            continue
        with places.writing(path), suppress(FileNotFoundError):  # another process may prune too
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        dropped, dropped_bytes = dropped + 1, dropped_bytes + size
    return dropped, dropped_bytes, left


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield (Unix time of its last use, bytes, path) of every derived graph and folder of engines."""
    for path in (*kept_backbones.derived(folder), *tensorrt.folders(folder)):
        with suppress(FileNotFoundError):
            yield path.stat().st_mtime, _total(path), path


def _document(store: FeatureStore, **counts: int) -> CacheResult:
    folder = store.path.parent
    graphs = [_size(file) for file in (folder / "backbones").glob("*.onnx")]
    engines = [_total(each) for each in tensorrt.folders(folder)]
    spaces = tuple(CacheSpace(*row) for row in store.summary())
    counts |= {"engines": len(engines), "engine_bytes": sum(engines)}
    return CacheResult(1, str(folder), _total(folder), len(graphs), sum(graphs), spaces, **counts)


def _total(path: Path) -> int:
    return _size(path) + sum(_size(file) for file in path.rglob("*"))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # another run has just moved it
        return 0
