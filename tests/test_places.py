"""Files and folders appear whole or not at all, and only where they may."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import tledge
from tledge import places
from tledge.errors import OutputError, TledgeError

FILES = ("run.json", "model.onnx")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ── Paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tilde_is_a_home_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert places.at("~/x") == Path("/somewhere/x")
    assert places.at("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    with pytest.raises(TledgeError, match="zero byte"):
        places.at("a\0b")


def test_the_cache_is_where_it_was_told_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(tmp_path / "a" / "b"))
    assert places.cache_dir() == tmp_path / "a" / "b" and places.cache_dir().is_dir()
    monkeypatch.setenv("TLEDGE_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert places.cache_dir() == tmp_path / "xdg" / "tledge"


def test_a_cache_that_cannot_be_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for chosen in (tmp_path / "file", tmp_path / "file" / "x"):
        monkeypatch.setenv("TLEDGE_CACHE_DIR", str(chosen))
        with pytest.raises(OutputError, match="a file stands where a folder is needed"):
            places.cache_dir()
        assert not tledge.doctor().passed


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TLEDGE_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)  # what a container's number without a name comes to
    with pytest.raises(OutputError, match="TLEDGE_CACHE_DIR"):
        places.cache_dir()


# ── Before the work ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_may_be_made_or_replaced_by_force(tmp_path: Path) -> None:
    places.check_free_file(tmp_path / "a" / "b" / "new", force=False)
    (tmp_path / "old").touch()
    with pytest.raises(OutputError, match="--force"):
        places.check_free_file(tmp_path / "old", force=False)
    places.check_free_file(tmp_path / "old", force=True)


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    for target in (tmp_path, tmp_path / "pipe", tmp_path / "dangling", Path("/dev/null")):
        with pytest.raises(OutputError, match="A file is to be written"):
            places.check_free_file(target, force=True)


def test_places_that_can_never_be_written_are_refused_early(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "x", tmp_path / "file" / "y" / "z", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError, match="cannot be written"):
            places.check_free_file(target, force=True)
        with pytest.raises(OutputError, match="cannot be written"):
            places.check_free_folder(target, force=True, files=FILES)


def test_a_folder_may_be_made_where_nothing_is(tmp_path: Path) -> None:
    places.check_free_folder(tmp_path / "a" / "b", force=False, files=FILES)
    (tmp_path / "empty").mkdir()
    places.check_free_folder(tmp_path / "empty", force=False, files=FILES)


def test_only_a_folder_of_ours_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "run"
    target.mkdir()
    (target / "model.onnx").touch()
    with pytest.raises(OutputError, match=r"no run\.json"):
        places.check_free_folder(target, force=True, files=FILES)
    (target / "run.json").touch()
    places.check_free_folder(target, force=True, files=FILES)
    with pytest.raises(OutputError, match="--force"):
        places.check_free_folder(target, force=False, files=FILES)
    (target / "diary.txt").touch()
    with pytest.raises(OutputError, match=r"diary\.txt"):
        places.check_free_folder(target, force=True, files=FILES)
    with pytest.raises(OutputError, match="is a file"):
        places.check_free_folder(target / "diary.txt", force=True, files=FILES)
    monkeypatch.chdir(target)
    with pytest.raises(OutputError, match="current"):
        places.check_free_folder(Path(), force=True, files=FILES)


def test_output_and_data_are_kept_apart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for target in (data, data / "x" / "y", tmp_path, tmp_path / "link" / "x", tmp_path / "z" / ".." / "data"):
        with pytest.raises(OutputError, match="data"):
            places.check_apart(target, data)
    (tmp_path / "circle").symlink_to("circle")
    places.check_apart(tmp_path / "data2", data)
    places.check_apart(tmp_path / "data2", tmp_path / "circle")


# ── While writing ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    places.write_whole(target, b"one")
    places.write_whole(target, b"two")
    assert target.read_bytes() == b"two" and names(target.parent) == ["file"]
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_takes_its_place_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "run"
    with places.whole_folder(target) as work:
        (work / "run.json").write_text("one")
        assert not target.exists()
    assert (target / "run.json").read_text() == "one" and names(target.parent) == ["run"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "run"
    with places.whole_folder(target) as work:
        (work / "run.json").write_text("old")
    with pytest.raises(error), places.whole_folder(target, force=True) as work:
        (work / "run.json").write_text("new")
        raise error
    assert (target / "run.json").read_text() == "old" and names(tmp_path) == ["run"]


def test_a_folder_is_swapped_by_force_only(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with places.whole_folder(target) as work:
        (work / "run.json").write_text("old")
    with pytest.raises(OutputError), places.whole_folder(target) as work:  # another process was faster
        (work / "run.json").write_text("new")
    assert (target / "run.json").read_text() == "old"
    (tmp_path / "link").symlink_to(target)
    with places.whole_folder(tmp_path / "link", force=True) as work:
        (work / "run.json").write_text("new")
    assert (target / "run.json").read_text() == "new" and (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["link", "run"]


def test_the_old_folder_comes_back_when_the_swap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "run"
    with places.whole_folder(target) as work:
        (work / "run.json").write_text("old")
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(5, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="Input/output"), places.whole_folder(target, force=True) as work:
        (work / "run.json").write_text("new")
    assert (target / "run.json").read_text() == "old" and names(tmp_path) == ["run"]


# ── Disks that are full, and disks that are read-only ────────────────────────────────────────────────────────────────


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small disk is needed, and there is no mount command")
    if done.returncode:
        pytest.skip(f"a small disk is needed, and may not be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_half_written(disk: Path, photos: Path, run: Path) -> None:
    with pytest.raises(OutputError, match="No space left"):
        tledge.train(photos, disk / "run")
    assert names(disk) == []
    (disk / "m.onnx").write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left"):
        tledge.export(run, disk / "m.onnx", precision="fp32", force=True)
    assert names(disk) == ["m.onnx"] and (disk / "m.onnx").read_bytes() == b"old"


def test_a_full_cache_is_an_error_and_doctor_sees_it(
    disk: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(disk))
    assert tledge.doctor().passed
    with pytest.raises(OSError, match="No space left"), (disk / "fill").open("wb", buffering=0) as fill:
        while True:
            fill.write(bytes(1 << 12))
    assert "No space left" in tledge.doctor().problems[0]
    with pytest.raises(OutputError):
        tledge.cache_info()
    assert names(disk) == ["features.sqlite", "fill"] or names(disk) == ["fill"]


def test_a_read_only_disk_is_refused_before_the_work(disk: Path, photos: Path, run: Path, int8_model: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    stages: list[str] = []

    def tell(words: str, done: int, total: int) -> None:
        stages.append(words)

    with pytest.raises(OutputError, match="read-only"):
        tledge.train(photos, disk / "a" / "run", on_progress=tell)
    with pytest.raises(OutputError, match="read-only"):
        tledge.export(run, disk / "m.onnx", on_progress=tell)
    with pytest.raises(OutputError, match="read-only"):
        tledge.bench(int8_model, save=disk / "b.json", on_progress=tell)
    assert not stages
