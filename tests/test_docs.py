"""What the README tells people to type really works."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_model, make_photos

from tledge.runtime import Predictor

README = Path(__file__).parent.parent / "README.md"


def plain_example() -> str:
    """Return the first Python block of the README that imports onnxruntime."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    found = [block for block in blocks if "import onnxruntime" in block]
    assert found, "README.md must show how a model file runs with plain onnxruntime"
    return found[0]


def test_the_plain_example_is_short_and_needs_nothing_of_ours():
    tree = ast.parse(plain_example())
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert imported == {"json", "numpy", "onnxruntime", "PIL"}
    assert len([node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]) <= 10


@pytest.mark.parametrize("model", ["tiny", "int8_model"])
def test_the_plain_example_gives_what_the_predictor_gives(tmp_path, monkeypatch, capsys, request, model):
    if model == "tiny":
        make_model(tmp_path / "model.onnx", ["left", "naïve 日本"], make_backbone(tmp_path / "graphs", size=24))
    else:
        shutil.copy(request.getfixturevalue(model), tmp_path / "model.onnx")
    predictor = Predictor(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    code = compile(plain_example(), str(README), "exec")
    for photo in make_photos(tmp_path / "photos", ["a", "b"], 3, size=300).rglob("*.jpg"):
        shutil.copy(photo, tmp_path / "new.jpg")
        names: dict[str, object] = {}
        exec(code, names)
        (expected,) = predictor(["new.jpg"])
        assert capsys.readouterr().out.startswith(f"{expected.label} {expected.probability:.3f}"[:-1])
        np.testing.assert_allclose(names["probabilities"], list(expected.probabilities.values()), atol=1e-4)
