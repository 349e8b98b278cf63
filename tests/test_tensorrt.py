"""Where TensorRT's engines are kept, with which options, and what is said while one is built. No TensorRT runs here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_model
from simulated_gpu import Build

from tledge import engine, machine, tensorrt
from tledge.errors import OutputError
from tledge.runtime import Predictor


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(tmp_path / "cache"))


def test_engines_of_other_weights_gpus_and_versions_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (make_backbone(tmp_path / str(seed), seed=seed).path.read_bytes() for seed in (0, 1))
    mine = tensorrt.engines(first, "fp32", "1.31")
    assert mine == tensorrt.engines(first, "fp32", "1.31")
    found = [mine, tensorrt.engines(second, "fp32", "1.31"), tensorrt.engines(first, "fp32", "1.32")]
    monkeypatch.setattr(machine, "gpus", lambda: "NVIDIA Orin")
    found.append(tensorrt.engines(first, "fp32", "1.31"))
    assert len({each.folder for each in found}) == 4
    timings = [each.options["trt_timing_cache_path"] for each in found]
    assert timings[0] == timings[1] and len(set(timings)) == 3  # layers measured for one model serve the next
    assert all(Path(folder).is_dir() and Path(folder).is_relative_to(tmp_path / "cache") for folder in timings)
    assert all(each.folder.is_dir() for each in found)


@pytest.mark.parametrize(
    ("precision", "half", "int8"), [("fp32", "False", "False"), ("fp16", "True", "False"), ("int8", "True", "True")]
)
def test_half_precision_is_allowed_where_the_file_is_not_float(precision: str, half: str, int8: str) -> None:
    options = tensorrt.engines(b"model", precision, "1.31").options
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (half, int8)
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "True"
    assert not any("calibration" in key for key in options)  # int8 is explicit, in the graph


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLEDGE_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written"):
        tensorrt.engines(b"model", "fp32", "1.31")


def test_the_first_start_says_before_and_after_and_later_ones_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kept = tensorrt.engines(b"model", "fp32", "1.31")
    with tensorrt.announced(kept, "net.onnx"):
        assert "builds an engine for net.onnx" in caplog.text and "minutes" in caplog.text
        (kept.folder / "TRTKernel_sm87.engine").write_bytes(b"")
        assert "was built in" not in caplog.text
    assert "was built in 0 s" in caplog.text and str(kept.folder) in caplog.text
    caplog.clear()
    with tensorrt.announced(kept, "net.onnx"):
        pass
    assert not caplog.text


def test_an_engine_that_could_not_be_built_is_not_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError), tensorrt.announced(tensorrt.engines(b"model", "fp32", "1.31"), "net.onnx"):
        raise RuntimeError("out of memory")
    assert "was built" not in caplog.text


def test_one_run_of_any_batch(tmp_path: Path) -> None:
    backbone = make_backbone(tmp_path)
    session = engine.open_session(backbone.path, provider="cpu")
    seen: list[np.ndarray] = []
    run, session.run = session.run, lambda names, feed: seen.append(feed["image"]) or run(names, feed)
    tensorrt.run_once(session, 5)
    assert seen[0].shape == (5, 16, 16, 3) and seen[0].dtype == np.uint8


def test_a_session_gets_its_own_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Build()
    monkeypatch.setattr(engine, "_onnxruntime", lambda: build)
    model = make_model(tmp_path / "model.onnx")
    assert Predictor(model, provider="tensorrt").provider == "tensorrt"
    (first, options), *behind = build.asked
    assert (first, behind) == ("TensorrtExecutionProvider", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert options == tensorrt.engines(model.read_bytes(), "fp32", "9.9").options
    Predictor(model, provider="cuda")
    assert build.asked[0] == ("CUDAExecutionProvider", {})


def test_the_gpus_of_this_machine_are_named_by_the_system() -> None:
    assert isinstance(machine.gpus(), str) and "\0" not in machine.gpus()
