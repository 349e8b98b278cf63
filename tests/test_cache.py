"""`tledge cache prune`: what of vectors, derived graphs and engines goes first, and what stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tledge
from tledge import tensorrt
from tledge.backbones import kept_files
from tledge.cli.app import app
from tledge.features import FeatureStore
from tledge.features.store import Space

HOUR_S = 3600
SIZE = 1000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def used(path: Path, hours_ago: float) -> Path:
    """Have `path` be one that was last used then."""
    when = time.time() - hours_ago * HOUR_S
    os.utime(path, (when, when))
    return path


def converted(cache: Path, hours_ago: float) -> Path:
    kept_files.keep(cache / "backbones", "net-0123456789ab", b"{}", ".json")
    return used(kept_files.keep(cache / "backbones", "net-0123456789ab", bytes(SIZE)).path, hours_ago)


def derived(cache: Path, precision: str, hours_ago: float) -> Path:
    content = precision.encode().ljust(SIZE)
    return used(kept_files.keep(cache / "backbones", f"net-{precision}-0123456789abcdef", content).path, hours_ago)


def engine(model: bytes, hours_ago: float) -> Path:
    folder = tensorrt.engines(model, "fp16", "1.31").folder
    (folder / "a.engine").write_bytes(bytes(SIZE))
    return used(folder, hours_ago)


def vectors(cache: Path, count: int) -> None:
    """Keep vectors of `SIZE` bytes each, used just now."""
    with FeatureStore(cache) as store:
        rows = {f"{i:064x}": np.zeros(SIZE // 4, np.float32) for i in range(count)}
        store.add(Space("space", "net", SIZE // 4), rows)


def test_graphs_and_engines_go_in_the_order_of_their_use(cache: Path) -> None:
    backbone = converted(cache, hours_ago=99)
    oldest, middle, newest = derived(cache, "int8", 9), engine(b"model", 8), derived(cache, "fp16", 7)
    assert tledge.cache_prune(3 * SIZE).dropped_files == 0
    found = tledge.cache_prune(3 * SIZE - 1)
    assert (found.dropped, found.dropped_files, found.dropped_bytes) == (0, 1, SIZE)
    assert not oldest.exists() and middle.exists() and newest.exists()
    tledge.cache_prune(SIZE)
    assert not middle.exists() and newest.exists()
    tledge.cache_prune(0)
    assert not newest.exists() and backbone.exists()  # what it was converted from may be gone


def test_vectors_and_files_share_the_room(cache: Path) -> None:
    old, new = derived(cache, "int8", 2), derived(cache, "fp16", -1)
    vectors(cache, 3)
    found = tledge.cache_prune(4 * SIZE)
    assert not old.exists() and new.exists()
    assert (found.dropped, found.dropped_files, found.dropped_bytes) == (0, 1, SIZE)
    found = tledge.cache_prune(2 * SIZE)
    assert new.exists() and (found.dropped, found.dropped_bytes) == (2, 2 * SIZE)


def test_what_is_used_again_stays(cache: Path) -> None:
    first, second = derived(cache, "int8", 9), derived(cache, "fp16", 8)
    assert kept_files.find(cache / "backbones", "net-int8-0123456789abcdef").path == first
    tledge.cache_prune(SIZE)
    assert first.exists() and not second.exists()
    first.unlink()
    again, other = engine(b"again", 9), engine(b"other", 8)
    tensorrt.engines(b"again", "fp16", "1.31")
    tledge.cache_prune(SIZE)
    assert again.exists() and not other.exists()


def test_engines_are_counted_and_what_went_is_said(cache: Path) -> None:
    engine(b"model", 1)
    found = tledge.cache_info()
    assert (found.engines, found.engine_bytes) == (2, SIZE)  # one folder holds timings, none so far
    said = CliRunner().invoke(app, ["cache", "prune", "--max-size", "10"], catch_exceptions=False)
    assert said.exit_code == 0 and "0 dropped, and 1 graphs or engines" in said.stdout


def test_a_cache_that_may_only_be_read_is_used_all_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = derived(cache, "int8", 9)
    tensorrt.engines(b"model", "fp16", "1.31")

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refused)  # these tests may run as root, whom nothing is refused
    assert kept_files.find(cache / "backbones", "net-int8-0123456789abcdef").path == graph
    assert tensorrt.engines(b"model", "fp16", "1.31").folder.is_dir()
