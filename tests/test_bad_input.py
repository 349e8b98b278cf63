"""Bad input of every kind: a TledgeError that tells what to do, and nothing left behind."""

from __future__ import annotations

import json
import pickle
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_photos
from typer.testing import CliRunner

import tledge
from tledge.cli.app import app
from tledge.cli.bench import _share
from tledge.errors import DataError, ModelError, OutputError, TledgeError
from tledge.seal import seal


@pytest.fixture(autouse=True)
def _kept_cache(cache: Path) -> None:
    """Every test shares the session's cache."""


def refused(call: Callable[[], object], *words: str) -> TledgeError:
    """Return the TledgeError that `call` must raise, after looking for `words` in what it says."""
    with pytest.raises(TledgeError) as caught:
        call()
    error = caught.value
    assert "\n" not in str(error) and error.message and all(word in str(error) for word in words), str(error)
    return error


def bomb() -> bytes:
    """Return a PNG whose header promises 50,000 × 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


# ── Data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_folders_that_cannot_be_trained_on(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(photos / "cat", tmp_path / "one" / "cat")
    shutil.copytree(photos / "cat", tmp_path / "single" / "cat")
    (tmp_path / "single" / "dog").mkdir()
    shutil.copy(photos / "dog" / "000.jpg", tmp_path / "single" / "dog")
    for name, word in [("empty", "no pictures"), ("one", "2 classes"), ("single", "'dog'"), ("gone", "not found")]:
        error = refused(lambda name=name: tledge.train(tmp_path / name, tmp_path / "r"), word)
        assert isinstance(error, DataError) and error.hint
    refused(lambda: tledge.train(photos / "cat" / "000.jpg", tmp_path / "r"), "folder")
    refused(lambda: tledge.train("a\0b", tmp_path / "r"), "zero byte")
    refused(lambda: tledge.train(photos, tmp_path / "r", test_data=tmp_path / "empty"), "no pictures")
    assert not (tmp_path / "r").exists()


def test_options_that_cannot_be(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "r"
    refused(lambda: tledge.train(photos, out, backbone="eficientnet_lite1"), "efficientnet_lite1")
    refused(lambda: tledge.train(photos, out, head="liner"), "linear")
    for fraction in (0, 1, -1, float("nan")):
        refused(lambda fraction=fraction: tledge.train(photos, out, test_fraction=fraction), "between 0 and 1")
    assert not out.exists()


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """Pictures, and files among them that cannot be used."""
    folder = make_photos(tmp_path / "spoiled", ("cat", "dog"), 6, seed=4)
    (folder / "cat" / "bomb.png").write_bytes(bomb())
    (folder / "cat" / "zero.jpg").write_bytes(b"")
    (folder / "dog" / "text.jpg").write_text("not a picture")
    (folder / "dog" / "cut.jpg").write_bytes((folder / "dog" / "000.jpg").read_bytes()[:500])
    return folder


def test_files_that_cannot_be_used_are_listed(spoiled: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "r")
    shown = CliRunner().invoke(app, ["train", str(spoiled), "--out", out], catch_exceptions=False)
    assert shown.exit_code == 0
    document = json.loads((tmp_path / "r" / "run.json").read_text())
    reasons = {Path(problem["path"]).name: problem["reason"] for problem in document["skipped"]}
    assert reasons.keys() == {"bomb.png", "zero.jpg", "text.jpg", "cut.jpg"} and "too large" in reasons["bomb.png"]
    assert all(name in shown.stdout for name in reasons)
    assert sum(document["samples"].values()) == 12


def test_files_that_cannot_be_used_are_an_error_when_strict(spoiled: Path, tmp_path: Path, int8_model: Path) -> None:
    for name in ("zero.jpg", "text.jpg", "cut.jpg", "bomb.png"):
        error = refused(lambda: tledge.train(spoiled, tmp_path / "r", strict=True), ".")
        assert isinstance(error, DataError)
        refused(lambda: tledge.evaluate(int8_model, spoiled, strict=True), ".")
        next(spoiled.rglob(name)).unlink()
    assert not (tmp_path / "r").exists()
    tledge.train(spoiled, tmp_path / "r", strict=True)


def test_a_picture_under_two_labels_is_reported(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", ("cat", "dog"), 6, seed=4)
    shutil.copy(photos / "cat" / "001.png", photos / "dog" / "same.png")
    out = str(tmp_path / "r")
    shown = CliRunner().invoke(app, ["train", str(photos), "--out", out], catch_exceptions=False)
    conflicts = json.loads((tmp_path / "r" / "run.json").read_text())["conflicts"]
    assert {Path(conflict["path"]).name for conflict in conflicts} == {"001.png", "same.png"}
    assert shown.stdout.count("same.png") >= 2


def test_predicting_and_evaluating_on_what_is_no_data(tmp_path: Path, int8_model: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(lambda: tledge.predict(int8_model, [tmp_path / "empty"]), "found none")
    refused(lambda: tledge.predict(int8_model, []), "found none")
    found = tledge.predict(int8_model, [tmp_path / ("n" * 300), photos / "cat" / "000.jpg" / "x"])
    assert not found.predictions and len(found.skipped) == 2
    other = make_photos(tmp_path / "other", ("cat", "zebra"), 2)
    refused(lambda: tledge.evaluate(int8_model, other), "'zebra'", "'owl'")
    refused(lambda: tledge.evaluate(int8_model, tmp_path / "gone"), "not found")


# ── Model files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def tampered(model: bytes) -> bytes:
    middle = len(model) // 2
    return model[:middle] + bytes([model[middle] ^ 1]) + model[middle + 1 :]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda model: b"", "not exported by tledge"),
        (lambda model: b"\xff\xd8\xff" + bytes(100), "not exported by tledge"),
        (lambda model: model[: len(model) // 2], "cut short"),
        (lambda model: model[:-1], "cut short"),
        (tampered, "digest"),
        (lambda model: seal(b"nonsense"), "cannot be loaded"),
    ],
)
def test_files_that_are_no_model_of_ours(
    spoil: Callable[[bytes], bytes], word: str, int8_model: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(spoil(int8_model.read_bytes()))
    for call in (
        lambda: tledge.predict(path, [photos]),
        lambda: tledge.evaluate(path, photos),
        lambda: tledge.verify(path),
    ):
        assert isinstance(refused(call, word), ModelError)
    # What tledge did not write may be measured all the same, if it is a model.
    measured = "cannot be loaded" if word == "not exported by tledge" else word
    for call in (
        lambda: tledge.bench(path, seconds=0.1),
        lambda: tledge.bench(int8_model, seconds=0.1, against=path),
    ):
        assert isinstance(refused(call, measured), ModelError)
    refused(lambda: tledge.export(path, tmp_path / "out.onnx"), "not a run")
    assert not (tmp_path / "out.onnx").exists()


def test_an_onnx_file_of_somebody_else(lite0: Any, photos: Path, tmp_path: Path) -> None:
    refused(lambda: tledge.predict(lite0.path, [photos]), "not exported by tledge")
    (tmp_path / "sealed.onnx").write_bytes(seal(lite0.path.read_bytes()))
    refused(lambda: tledge.predict(tmp_path / "sealed.onnx", [photos]), "manifest")


def test_a_folder_is_no_model(run: Path, photos: Path) -> None:
    refused(lambda: tledge.predict(run, [photos]), "directory")
    refused(lambda: tledge.verify(run / "gone.onnx"), "No such file")


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused_as_run(run: Path, out: Path, *words: str) -> None:
    refused(lambda: tledge.export(run, out), *words)
    refused(lambda: tledge.train(**tledge.replay(run), out=out), *words)
    assert not out.exists()


def test_a_damaged_run_document(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    document = json.loads((run / "run.json").read_text())
    for text in ("", "{", "[]", "null", "{}", '{"data": 1}', "\udcff"):
        (copy / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        refused_as_run(copy, tmp_path / "out", "run.json is not a run")
    for key, value in [("data", 1), ("test_data", 1), ("options", []), ("classes", "x"), ("fingerprint", None)]:
        (copy / "run.json").write_text(json.dumps({**document, key: value}))
        refused_as_run(copy, tmp_path / "out", key)
    for key, value in [
        ("seed", "1"),
        ("seed", True),
        ("strict", 1),
        ("backbone", 1),
        ("hidden", ["x"]),
        ("pool", "mean"),
        ("tomorrow", 1),
    ]:
        changed = {**document, "options": {**document["options"], key: value}}
        (copy / "run.json").write_text(json.dumps(changed))
        refused_as_run(copy, tmp_path / "out", key)
    (copy / "run.json").unlink()
    refused_as_run(copy, tmp_path / "out", "no run.json")
    refused_as_run(tmp_path / "gone", tmp_path / "out", "gone")


class Evil:
    """What a pickle may do."""

    ran = False

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _ran, ()


def _ran() -> None:
    Evil.ran = True


def test_a_damaged_head(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    head, good = copy / "head.npz", (run / "head.npz").read_bytes()
    shape = {"weights": np.zeros((1280, 3), np.float32), "bias": np.zeros(3, np.float32), "l2": 1.0}

    def stored(**changed: Any) -> Callable[[], object]:
        return lambda: np.savez(head, **{**shape, **changed})

    for spoil in (
        lambda: head.unlink(),
        lambda: head.write_bytes(b""),
        lambda: head.write_bytes(good[:3000]),
        lambda: head.write_bytes(tampered(good)),
        lambda: head.write_bytes(pickle.dumps(Evil())),
        lambda: head.write_bytes(b"\x93NUMPY\x01\x00" + bytes(200)),
        stored(weights=np.array([Evil()], dtype=object)),
        stored(weights=np.zeros((5, 3), np.float32)),
        stored(weights=np.full((1280, 3), "x")),
        stored(bias=np.full(3, np.nan, np.float32)),
        stored(facts=np.array("{")),
        stored(kind=np.array("nonsense")),
        stored(thresholds=np.array(["x"])),
    ):
        spoil()
        refused(lambda: tledge.export(copy, tmp_path / "m.onnx", precision="fp32"), "head.npz")
    assert not Evil.ran and not (tmp_path / "m.onnx").exists()


def test_data_that_changed_since_the_run(tmp_path: Path) -> None:
    photos, run = make_photos(tmp_path / "photos", ("cat", "dog"), 5, seed=8), tmp_path / "r"
    tledge.train(photos, run)
    (photos / "cat" / "001.png").rename(tmp_path / "aside.png")
    refused(lambda: tledge.export(run, tmp_path / "m.onnx", precision="fp32"), "trained on", "train again")
    (tmp_path / "aside.png").rename(photos / "cat" / "renamed.png")
    tledge.export(run, tmp_path / "m.onnx", precision="fp32")
    shutil.rmtree(photos)
    refused(lambda: tledge.export(run, tmp_path / "m2.onnx", precision="fp32"), "not found")


# ── Export and bench: what may be asked ──────────────────────────────────────────────────────────────────────────────


def test_exports_that_cannot_be(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    refused(lambda: tledge.export(run, out, precision="fp23"), "fp32")  # type: ignore[arg-type]
    for share in (-0.1, 1.1, float("nan")):
        refused(lambda share=share: tledge.export(run, out, min_agreement=share), "between 0 and 100 %")
    refused(lambda: tledge.export(run, out, max_drop=float("nan")), "number of points")
    refused(lambda: tledge.export(run, tmp_path), "folder")
    (tmp_path / "file").touch()
    refused(lambda: tledge.export(run, tmp_path / "file" / "m.onnx"), "cannot be written")
    assert not out.exists()


@pytest.mark.parametrize("percent", ["101", "-1", "nan"])
def test_agreement_is_in_percent_on_the_command_line(percent: str, run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "m"), f"--min-agreement={percent}"])
    assert result.exit_code == 2 and f"got {percent} %" in result.stderr


def test_a_gain_may_be_asked_for_and_a_failure_leaves_no_file(run: Path, tmp_path: Path) -> None:
    with pytest.raises(tledge.TledgeError, match="drops by") as caught:
        tledge.export(run, tmp_path / "m.onnx", precision="fp32", max_drop=-1)
    assert caught.value.exit_code == 1 and not any(tmp_path.iterdir())


@pytest.mark.parametrize("share", ["x", "", "5%%", "%", "-3%", "nan", "inf"])
def test_shares_that_are_none(share: str, int8_model: Path) -> None:
    result = CliRunner().invoke(app, ["bench", str(int8_model), "--seconds", "0.1", f"--max-regression={share}"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "share" in result.stderr


def test_shares_in_both_forms() -> None:
    assert [_share(text) for text in ("7%", "0.07", " 7 % ", "0")] == [pytest.approx(0.07)] * 3 + [0]


def test_scenarios_that_are_none(int8_model: Path) -> None:
    refused(lambda: tledge.bench(int8_model, scenarios=["singlestream"]), "Did you mean single_stream")
    refused(lambda: tledge.bench(int8_model, scenarios=[]), "offline")


def test_baselines_that_are_none(int8_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    tledge.bench(int8_model, seconds=0.1, scenarios=["single_stream"], save=path)
    good = json.loads(path.read_text())
    for wrong in ([], {"a": 1}, {**good, "reference": 3}, {**good, "machine": "this one"}):
        path.write_text(json.dumps(wrong))
        refused(lambda: tledge.bench(int8_model, seconds=0.1, against=path), "base.json")
    path.write_text("{")
    refused(lambda: tledge.bench(int8_model, seconds=0.1, against=path), "no JSON")
    refused(lambda: tledge.bench(int8_model, seconds=0.1, against=tmp_path / "gone.json"), "cannot be read")


# ── The cache ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", ["-1", "abc", "", "1e3", "inf", "5 X", "1,5G"])
def test_sizes_that_are_none(size: str) -> None:
    refused(lambda: tledge.cache_prune(size), "500M")


def test_sizes_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(tmp_path))
    for size in (0, 10, "0", "500M", "1.5GiB", "2gb", "1 K", "7TB"):
        assert tledge.cache_prune(size).dropped == 0


def test_caches_that_are_damaged_foreign_or_newer(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(tmp_path))
    file = tmp_path / "features.sqlite"

    def foreign(statement: str) -> None:
        file.unlink(missing_ok=True)
        with sqlite3.connect(file) as db:
            db.execute(statement)

    for spoil in (
        lambda: file.write_bytes(b"no database at all" * 10),
        lambda: foreign("PRAGMA user_version = 99"),
        lambda: foreign("CREATE TABLE spaces (other)"),
    ):
        spoil()
        for call in (tledge.cache_info, tledge.cache_verify, lambda: tledge.cache_prune("1G")):
            assert isinstance(refused(call, "features.sqlite"), OutputError)


@pytest.mark.usefixtures("run")  # which fills the cache
def test_damaged_vectors_are_dropped_and_told(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(cache / "features.sqlite") as db, sqlite3.connect(tmp_path / "features.sqlite") as copy:
        db.backup(copy)
        copy.execute("UPDATE features SET vector = zeroblob(10) WHERE rowid = (SELECT MIN(rowid) FROM features)")
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(tmp_path))
    result = CliRunner().invoke(app, ["cache", "verify", "--json"], catch_exceptions=False)
    assert result.exit_code == 1 and json.loads(result.stdout)["dropped"] == 1
    assert CliRunner().invoke(app, ["cache", "verify"], catch_exceptions=False).exit_code == 0
