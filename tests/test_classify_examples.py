"""examples/classify.py and classify.cpp give what the Predictor gives, from the model file alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import draw_photo, make_backbone, make_model
from PIL import Image

from tledge.runtime import Predictor

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CLASSES = ["left", "naïve “quoted” \\ 日本", "right"]
SIZE = 24
HEADER = "onnxruntime_cxx_api.h"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classify")
    return make_model(folder / "model.onnx", CLASSES, make_backbone(folder / "graphs", size=SIZE))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """classify.cpp, compiled with the first headers found and linked to the library in onnxruntime's wheel."""
    named = os.environ.get("ONNXRUNTIME_INCLUDE")
    places = [Path(named)] if named else [Path(root) / "include/onnxruntime" for root in ("/usr", "/usr/local")]
    headers = next((place for place in places if (place / HEADER).is_file()), None)
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    compiler = shutil.which("g++") or shutil.which("c++")
    if not (headers and library and compiler):
        missing = [HEADER] * (not headers) + ["libonnxruntime.so"] * (not library) + ["g++"] * (not compiler)
        where = "headers: libonnxruntime-dev of Debian 13, or a folder that ONNXRUNTIME_INCLUDE names"
        pytest.skip(f"not found: {', '.join(missing)} ({where})")
    made = tmp_path_factory.mktemp("cpp") / "classify"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-isystem", headers, EXAMPLES / "classify.cpp", library]
    subprocess.run([compiler, *flags, f"-Wl,-rpath,{library.parent}", "-o", made], check=True)
    (made.parent / "libonnxruntime.so.1").symlink_to(library)  # the name it is known by, which the wheel leaves out
    return made


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment(command[0]))


def environment(program: object) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(Path(str(program)).parent)}


@pytest.mark.parametrize("kind", range(4))
def test_python_says_what_the_predictor_says(tmp_path, model, kind):
    picture = tmp_path / ("new.jpg" if kind % 2 else "new.png")
    Image.fromarray(draw_photo(kind, np.random.default_rng(kind), 100)).save(picture)
    (expected,) = Predictor(model)([picture])
    done = run(sys.executable, EXAMPLES / "classify.py", model, picture)
    label, probability = done.stdout.rsplit(maxsplit=1)
    assert label == ascii(expected.label)
    assert float(probability) == pytest.approx(expected.probability, abs=2e-4)


def test_cpp_says_what_the_predictor_says(tmp_path, model, program):
    seen = set()
    for kind in range(4):
        picture = draw_photo(kind, np.random.default_rng(kind), SIZE)
        (tmp_path / "pixels").write_bytes(picture.tobytes())
        (expected,) = Predictor(model)([picture])
        done = run(program, model, tmp_path / "pixels")
        assert done.returncode == 0, done.stderr
        label, probability = done.stdout.rsplit(maxsplit=1)
        assert json.loads(f'"{label}"') == expected.label
        assert float(probability) == pytest.approx(expected.probability, abs=1e-5)
        seen.add(label)
    assert seen


def test_cpp_says_in_one_line_what_is_wrong(tmp_path, model, program):
    (tmp_path / "short").write_bytes(b"abc")
    for words in (["none.onnx", "x"], [model, tmp_path / "short"], [model, "none"], []):
        done = run(program, *words)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and not done.stdout


def test_the_examples_need_nothing_of_ours_and_are_listed():
    assert "import tledge" not in (EXAMPLES / "classify.py").read_text()
    index = (EXAMPLES / "README.md").read_text()
    assert "(classify.py)" in index and "(classify.cpp)" in index
