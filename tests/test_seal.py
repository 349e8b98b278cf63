"""The seal: any change of a file is noticed before the file is run, and other readers never notice the seal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_model, make_photos
from typer.testing import CliRunner

from tledge.cli.app import app
from tledge.errors import ModelError
from tledge.runtime import Predictor
from tledge.seal import check_seal, seal


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_model(tmp_path_factory.mktemp("model") / "model.onnx").read_bytes()


def refused(content: bytes) -> str:
    with pytest.raises(ModelError) as error:
        check_seal(content, "it.onnx")
    assert error.value.message.startswith("it.onnx")
    assert error.value.hint
    return error.value.message


def test_a_sealed_file_is_accepted_and_its_digest_told(sealed):
    digest = check_seal(sealed, "it.onnx")
    body = sealed[: sealed.rindex(b"tledge.digest") - 4]
    assert digest == hashlib.sha256(body).hexdigest()
    assert sealed == seal(body)


def test_other_readers_see_the_same_model_with_one_more_entry(sealed):
    body = sealed[: sealed.rindex(b"tledge.digest") - 4]
    sessions = [onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]) for each in (body, sealed)]
    before, after = (session.get_modelmeta().custom_metadata_map for session in sessions)
    assert after == {**before, "tledge.digest": hashlib.sha256(body).hexdigest()}
    image = {"image": np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)}
    np.testing.assert_array_equal(*(session.run(None, image)[0] for session in sessions))


def test_a_flipped_bit_anywhere_is_refused(sealed):
    rng = np.random.default_rng(0)
    everywhere = rng.choice(len(sealed), 300, replace=False)
    for position in {*everywhere.tolist(), 0, *range(len(sealed) - 90, len(sealed))}:
        changed = bytearray(sealed)
        changed[position] ^= 1 << int(rng.integers(8))
        refused(bytes(changed))


def test_a_file_cut_short_is_refused(sealed):
    for length in {*range(0, len(sealed), 37), *range(len(sealed) - 90, len(sealed))}:
        refused(sealed[:length])


@pytest.mark.parametrize("more", [b"\0", b"\n", b"x" * 200])
def test_a_file_that_grew_is_refused(sealed, more):
    assert "changed" in refused(sealed + more)
    refused(more + sealed)


def test_files_that_were_never_sealed_are_not_ours(sealed):
    rng = np.random.default_rng(1)
    for size in (0, 1, 79, 80, 81, 82, 100, 5000):
        assert "not exported by tledge" in refused(rng.bytes(size))


def test_a_seal_without_its_model_is_refused(sealed):
    refused(sealed[-82:])
    refused(sealed[:100] + sealed[-82:])


def test_sealing_nothing_still_is_a_seal():
    assert check_seal(seal(b""), "empty") == hashlib.sha256(b"").hexdigest()


# ── Wherever a model file is opened ──────────────────────────────────────────────────────────────────────────────────


def damaged(sealed: bytes, count: int) -> list[bytes]:
    """Return `count` copies of `sealed` with one bit flipped, and `count` cut short, all drawn at random."""
    rng = np.random.default_rng(2)
    flipped = []
    for position in rng.choice(len(sealed), count, replace=False):
        flipped.append(bytearray(sealed))
        flipped[-1][position] ^= 1 << int(rng.integers(8))
    return [*map(bytes, flipped), *(sealed[:length] for length in rng.choice(len(sealed), count, replace=False))]


@pytest.fixture
def never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test when onnxruntime gets to see a model."""

    def opened(*_, **__):
        raise AssertionError("a damaged file was handed to onnxruntime")

    monkeypatch.setattr("tledge.engine.open_session", opened)


@pytest.mark.usefixtures("never_run")
def test_damage_is_noticed_before_anything_is_run(tmp_path: Path, sealed):
    path = tmp_path / "changed.onnx"
    for content in damaged(sealed, 200):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"changed\.onnx"):
            Predictor(path)


@pytest.mark.usefixtures("never_run")
@pytest.mark.parametrize(
    "command", ["verify M", "predict M P", "evaluate M P", "bench M", "bench M --against M", "sign M"]
)
def test_every_command_notices(tmp_path: Path, sealed, command):
    path = tmp_path / "changed.onnx"
    photos = make_photos(tmp_path / "photos", ("left", "right"), 1)
    private = tmp_path / "key.pem"
    private.write_text("not even looked at")
    words = [{"M": str(path), "P": str(photos)}.get(word, word) for word in command.split()]
    words += ["--key", str(private)] if command.startswith("sign") else []
    for content in damaged(sealed, 5):
        path.write_bytes(content)
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 2 and str(path) in result.stderr and result.stderr.count("\n") == 1
        assert result.stdout == ""


def test_the_baseline_of_a_bench_is_checked_too(tmp_path: Path, sealed):
    whole, changed = tmp_path / "whole.onnx", tmp_path / "changed.onnx"
    whole.write_bytes(sealed)
    for content in damaged(sealed, 5):
        changed.write_bytes(content)
        words = ["bench", str(whole), "--against", str(changed), "--seconds", "0.05"]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 2 and result.stdout == ""
