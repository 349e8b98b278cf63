"""Processes that only load and run a model: what they load, what they take, and how they may end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_model

from tledge.errors import TledgeError
from tledge.measurement import Subject, open_subject
from tledge.measurement.box import fresh_process
from tledge.measurement.box.cold_start import cold_start
from tledge.measurement.box.resources import resources

MEGABYTE = 1_000_000


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return open_subject(make_model(tmp_path / "model.onnx"), threads=1)


def open_foreign(folder: Path, name: str, megabytes: int = 0) -> Subject:
    """Open a model of somebody else with one input called `name`, and weights of that many megabytes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((250, max(1, 1000 * megabytes)), np.float32), "weights")
    nodes = [helper.make_node("MatMul", [name, "weights"], ["out"])]
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 250])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", weights.dims[1]])
    graph = helper.make_graph(nodes, "foreign", [given], [out], [weights])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "foreign.onnx")
    return open_subject(folder / "foreign.onnx", threads=1)


# ── Cold start ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ours", [True, False])
def test_stages_of_a_cold_start_follow_one_another(tmp_path, subject, ours):
    found = cold_start(subject if ours else open_foreign(tmp_path, "file"), "cpu", processes=2)
    parts = (found.process_ms, found.import_ms, found.session_ms, found.first_run_ms)
    assert min(parts) > 0
    assert 0 < found.total_min_ms <= found.total_ms <= found.total_max_ms
    assert sum(parts) == pytest.approx(found.total_ms)  # the median of two is their mean
    assert (found.processes, found.page_cache, found.engine_build_ms) == (2, "warm", None)


def test_the_process_loads_what_a_box_loads_and_nothing_of_the_measurement(tmp_path, subject):
    np.savez(tmp_path / "values.npz", *subject.feed(1).values())
    order = {"model": str(subject.path), "ours": True, "provider": "cpu", "threads": 1, "inputs": ["image"]}
    order |= {"values": str(tmp_path / "values.npz"), "seconds": 0, "idle_seconds": 0}
    program = Path(fresh_process.__file__).with_name("fresh_program.py")
    code = f"import runpy, sys\nrunpy.run_path({str(program)!r}, run_name='__main__')\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(order)], capture_output=True, text=True, check=True)
    document, modules = done.stdout.splitlines()
    assert json.loads(document)["first_run"] > 0
    assert "tledge.runtime" in modules.split()
    assert not {"tledge.measurement", "onnx", "PIL", "simplejpeg", "typer", "rich"} & set(modules.split())


def test_a_build_of_engines_is_what_a_start_takes_longer_with_an_empty_cache(tmp_path, subject):
    """There is no TensorRT here: the processes are those of the CPU, one of which is slow when it finds no cache."""
    slow = "import os, tledge.engine as engine, time\nopen_session = engine.open_session\n"
    slow += "def open_slowly(*given, **more):\n    if not os.path.exists(os.environ['TLEDGE_CACHE_DIR'] + '/kept'):\n"
    slow += "        time.sleep(0.5)\n    return open_session(*given, **more)\nengine.open_session = open_slowly\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    (tmp_path / "kept").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setenv("TLEDGE_CACHE_DIR", str(tmp_path))
        found = cold_start(replace(subject, provider="tensorrt"), "cpu", processes=1)
    assert found.engine_build_ms > 0
    assert found.engine_build_ms + found.session_ms > 500


# ── Memory and processor time ────────────────────────────────────────────────────────────────────────────────────────


def test_memory_is_that_of_the_model_and_not_of_this_process(tmp_path):
    kept = np.ones(200 * MEGABYTE, np.uint8)  # what a child could wrongly be said to have had
    found = resources(open_foreign(tmp_path, "x", megabytes=40), "cpu", 0.1)
    assert found.imported_bytes < found.steady_bytes <= found.peak_bytes < len(kept)
    assert found.steady_bytes - found.imported_bytes > 38 * MEGABYTE
    assert found.inferences >= 1


def test_processor_time_is_counted_in_use_and_idle(subject):
    found = resources(subject, "cpu", 0.2)
    assert 0 < found.cpu_seconds_per_inference < 3 * found.seconds_per_inference
    assert found.inferences * found.seconds_per_inference == pytest.approx(0.2, rel=1)
    assert found.idle_seconds >= 0.5
    assert 0 <= found.idle_cpu_seconds_per_second < len(os.sched_getaffinity(0))
    assert found.energy is not None or found.energy_reason


# ── When it does not go well ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_process_that_fails_is_one_line_that_says_why(tmp_path, subject):
    gone = replace(subject, path=tmp_path / "gone.onnx")
    with pytest.raises(TledgeError, match=r"could not run .*gone\.onnx .exit code 1.: .*cannot be read") as caught:
        fresh_process.run(gone, "cpu")
    assert "\n" not in str(caught.value)
    assert "Traceback" in caught.value.__notes__[0]


def test_a_process_that_is_killed_is_said_to_want_memory(tmp_path, subject):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(TledgeError, match="exit code -9") as caught:
        fresh_process.run(subject, "cpu", environment={"PYTHONPATH": str(tmp_path)})
    assert "memory" in caught.value.hint
