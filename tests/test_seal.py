"""The seal: any change of a file is noticed before the file is run, and other readers never notice the seal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import make_model

from tledge.errors import ModelError
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


def test_the_model_file_is_checked_on_opening(tmp_path: Path, sealed):
    from tledge.runtime import Predictor

    changed = bytearray(sealed)
    changed[len(sealed) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(changed)
    with pytest.raises(ModelError, match="does not match its digest"):
        Predictor(tmp_path / "changed.onnx")
