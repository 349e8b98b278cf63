"""Signatures: only the owner of the key can have made one, and only for this very file."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_head, make_manifest
from typer.testing import CliRunner, Result

import tledge
from tledge import heads, modalities
from tledge.cli.app import app
from tledge.errors import CheckFailed, MissingExtra, ModelError, OutputError, TledgeError
from tledge.model import signature as signature_room
from tledge.model.join import join
from tledge.model.manifest import golden_samples, stamp
from tledge.seal import seal

if find_spec("model_signing") is None:  # when it is there and cannot be imported, that is to be seen
    pytest.skip("model-signing (extra sign) is not installed", allow_module_level=True)
pytest.importorskip("onnx", reason="onnx (extra train) is not installed")


def write_keys(folder: Path, name: str, curve: str = "SECP256R1", password: bytes | None = None) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(getattr(ec, curve)())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    locked = s.BestAvailableEncryption(password) if password else s.NoEncryption()
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model file with a golden sample, so that it can be verified."""
    import dataclasses

    import onnxruntime

    backbone = make_backbone(tmp_path_factory.mktemp("graphs"))
    graph = join(backbone, heads.graph(make_head(2), 8))
    batch = np.zeros((1, 16, 16, 3), np.uint8)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    reader = modalities.reader(backbone.preprocess)
    golden = golden_samples(list(batch), reader, lambda rows: session.run(["probabilities"], reader.feed(rows))[0])
    return stamp(graph, dataclasses.replace(make_manifest(backbone, ["left", "right"]), golden=golden))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> Path:
    """`model.onnx` here, with two pairs of keys: mine and theirs."""
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(content)
    for name in ("mine", "theirs"):
        write_keys(Path(), name)
    return Path("model.onnx")


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def line(*words: str | Path, code: int) -> str:
    """Run a command that must fail with `code`, saying why in one line and nothing else; returns that line."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert result.stdout == "" and result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    return result.stderr


def test_what_was_signed_verifies(model):
    signed = tledge.sign(model, "mine.pem")
    assert signed.signature == "model.onnx.sig" and signed.bytes == Path("model.onnx.sig").stat().st_size
    verified = tledge.verify(model, key="mine.pub.pem")
    assert verified.passed and (verified.signature, verified.signature_file) == ("valid", "model.onnx.sig")
    assert verified.digest == signed.digest


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_the_curves(model, curve):
    write_keys(Path(), "other", curve)
    tledge.sign(model, "other.pem")
    assert tledge.verify(model, key="other.pub.pem").signature == "valid"


def test_the_commands_say_it(model):
    assert "(not checked" not in invoke("verify", model).stdout
    assert "tledge verify model.onnx --key PUBLIC.pem" in invoke("sign", model, "--key", "mine.pem").stdout
    assert "model.onnx.sig (not checked: name the public key with --key)" in invoke("verify", model).stdout
    assert "model.onnx.sig (valid)" in invoke("verify", model, "--key", "mine.pub.pem").stdout
    assert "--signature a.sig" in invoke("sign", model, "--key", "mine.pem", "--out", "a.sig").stdout
    found = json.loads(invoke("verify", model, "--key", "mine.pub.pem", "--signature", "a.sig", "--json").stdout)
    assert (found["signature"], found["signature_file"]) == ("valid", "a.sig")


def test_a_renamed_or_linked_model_keeps_its_signature(model):
    tledge.sign(model, "mine.pem")
    Path("link.onnx").symlink_to(model.resolve())
    assert tledge.verify("link.onnx", key="mine.pub.pem", signature="model.onnx.sig").signature == "valid"
    Path("link.onnx").unlink()
    model.rename("other.onnx")
    assert tledge.verify("other.onnx", key="mine.pub.pem", signature="model.onnx.sig").signature == "valid"


def test_the_key_of_another_is_refused(model):
    tledge.sign(model, "mine.pem")
    assert "no signature of model.onnx" in line("verify", model, "--key", "theirs.pub.pem", code=1)


def test_a_missing_signature_is_refused(model):
    assert "no signature model.onnx.sig" in line("verify", model, "--key", "mine.pub.pem", code=1)
    assert tledge.verify(model).signature == "none"


def test_an_altered_model_is_refused_even_when_sealed_again(model, content):
    tledge.sign(model, "mine.pem")
    body = bytearray(content[: content.rindex(b"tledge.digest") - 4])
    body[body.index(b"left")] = ord("L")
    for altered in (content[:-1], content[:3000] + b"x" + content[3001:], seal(bytes(body))):
        model.write_bytes(altered)
        assert "no signature of model.onnx" in line("verify", model, "--key", "mine.pub.pem", code=1)


def test_an_altered_signature_is_refused(model):
    tledge.sign(model, "mine.pem")
    file = Path("model.onnx.sig")
    signature = file.read_bytes()
    bundle = json.loads(signature)
    envelope = next(value for key, value in bundle.items() if "nvelope" in key)
    (signed,) = envelope["signatures"]
    signed["sig"] = signed["sig"][:20] + ("A" if signed["sig"][20] != "A" else "B") + signed["sig"][21:]
    unsigned = json.loads(signature)
    next(value for key, value in unsigned.items() if "nvelope" in key)["signatures"] = []
    for altered in (json.dumps(bundle), json.dumps(unsigned), "", "{}", "[]", "null", "\0", signature[:-20].decode()):
        file.write_text(altered)
        with pytest.raises(CheckFailed, match="no signature of"):
            tledge.verify(model, key="mine.pub.pem")
    file.write_bytes(b"\xff\xfe")
    assert "no signature of" in line("verify", model, "--key", "mine.pub.pem", code=1)


def test_flipped_bits_of_a_signature_never_lead_astray(model):
    """A flip may hit what nobody signed (a letter's case in the name of a media type); then it must still be valid."""
    tledge.sign(model, "mine.pem")
    file, rng = Path("model.onnx.sig"), np.random.default_rng(0)
    signature = file.read_bytes()
    refused = 0
    for position in rng.choice(len(signature), 60, replace=False):
        changed = bytearray(signature)
        changed[position] ^= 1 << int(rng.integers(7))
        file.write_bytes(changed)
        try:
            signature_room.check(model, file, Path("mine.pub.pem"))
        except CheckFailed:
            refused += 1
    assert refused > 40


def test_the_signature_of_another_model_is_refused(model, content):
    tledge.sign(model, "mine.pem")
    body = content[: content.rindex(b"tledge.digest") - 4]
    Path("other.onnx").write_bytes(seal(body.replace(b"left", b"lift")))
    with pytest.raises(CheckFailed):
        tledge.verify("other.onnx", key="mine.pub.pem", signature="model.onnx.sig")


def test_keys_that_are_none(model):
    tledge.sign(model, "mine.pem")
    Path("nonsense.pem").write_text("no key")
    write_keys(Path(), "locked", password=b"secret")
    write_keys(Path(), "bitcoin", "SECP256K1")
    for key in ("nonsense.pem", "mine.pem", "bitcoin.pub.pem"):
        assert "A public key of curve P-256" in line("verify", model, "--key", key, code=2)
    for key in ("nonsense.pem", "mine.pub.pem", "locked.pem", "bitcoin.pem"):
        assert "A private key of curve P-256" in line("sign", model, "--key", key, "--out", "new.sig", code=2)
    assert "cannot be read" in line("verify", model, "--key", "none.pem", code=2)
    assert "cannot be read" in line("sign", model, "--key", "none.pem", "--out", "new.sig", code=2)
    assert "cannot be read" in line("sign", model, "--key", ".", "--out", "new.sig", code=2)
    assert "--key" in line("verify", model, "--signature", "model.onnx.sig", code=2)
    assert not Path("new.sig").exists()


def test_nothing_is_overwritten_without_force(model):
    Path("model.onnx.sig").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        tledge.sign(model, "mine.pem")
    assert Path("model.onnx.sig").read_text() == "mine"
    tledge.sign(model, "mine.pem", force=True)
    assert tledge.verify(model, key="mine.pub.pem").signature == "valid"


def test_the_model_and_the_key_are_never_overwritten(model, content):
    key = Path("mine.pem").read_bytes()
    for out in ("model.onnx", "./mine.pem"):
        with pytest.raises(OutputError, match="must not replace"):
            tledge.sign(model, "mine.pem", out=out, force=True)
    assert model.read_bytes() == content and Path("mine.pem").read_bytes() == key


def test_only_whole_models_of_ours_are_signed(model, content):
    model.write_bytes(content[:-1])
    with pytest.raises(ModelError, match="changed or cut short"):
        tledge.sign(model, "mine.pem")
    with pytest.raises(ModelError, match="cannot be read"):
        tledge.sign("none.onnx", "mine.pem")
    assert not Path("model.onnx.sig").exists()


def test_without_the_library_it_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tledge\[sign\]'"):
        tledge.sign(model, "mine.pem")
    with pytest.raises(TledgeError, match=r"tledge\[sign\]"):
        tledge.verify(model, key="mine.pub.pem")
    assert tledge.verify(model).signature == "none"  # needs no library


def test_nothing_is_asked_of_the_network(model):
    code = """
import socket, sys
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
import tledge
tledge.sign("model.onnx", "mine.pem")
assert tledge.verify("model.onnx", key="mine.pub.pem").signature == "valid"
"""
    subprocess.run([sys.executable, "-c", code], check=True)
