"""Layouts: each folder holds what its reader expects, taken from the model file, and appears whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_head, make_manifest
from typer.testing import CliRunner

import tledge
from tledge import heads
from tledge.backbones.standardised import standardised
from tledge.cli.app import app
from tledge.errors import OutputError, TledgeError
from tledge.model import layouts
from tledge.model.join import join
from tledge.model.manifest import stamp
from tledge.runtime import Predictor

pytest.importorskip("onnx", reason="onnx (extra train) is not installed")

CLASSES = ["left", "two\nlines", "naïve “quoted” \\ 日本 \udc80"]
WEB = {"classify.js", "index.html", "labels.json", "model.onnx", "preprocess.json"}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    backbone = make_backbone(tmp_path_factory.mktemp("graphs"), size=24)
    return stamp(join(backbone, heads.graph(make_head(3), 8)), make_manifest(backbone, CLASSES))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    backbone = standardised(np.random.default_rng(0).normal(size=(20, 8)), tmp_path_factory.mktemp("graphs"))
    return stamp(join(backbone, heads.graph(make_head(2), 8)), make_manifest(backbone, ["a", "b"]))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ── Triton ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_triton_is_a_model_repository(tmp_path, content):
    written = layouts.write(tmp_path / "models", "triton", "solar", content, force=False)
    assert written == tmp_path / "models/solar/1/model.onnx" and written.read_bytes() == content
    assert files(tmp_path / "models") == {"solar/config.pbtxt", "solar/labels.txt", "solar/1/model.onnx"}
    config = (tmp_path / "models/solar/config.pbtxt").read_text()
    assert config.splitlines()[:3] == ['name: "solar"', 'backend: "onnxruntime"', "max_batch_size: 32"]
    assert 'input [ { name: "image" data_type: TYPE_UINT8 dims: [24, 24, 3] } ]' in config
    assert 'name: "probabilities" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt"' in config
    assert "dynamic_batching { }" in config
    assert (tmp_path / "models/solar/labels.txt").read_text() == "left\ntwo lines\nnaïve “quoted” \\ 日本 ?\n"


def test_triton_takes_a_model_of_vectors(tmp_path, vectors):
    layouts.write(tmp_path / "models", "triton", "m", vectors, force=False)
    assert 'name: "vector" data_type: TYPE_FP32 dims: [8]' in (tmp_path / "models/m/config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("folder", "name"), [("first", "first"), ("a b:c", "a_b_c"), ("..x", "x"), ("日本", "__"), ("...", "model")]
)
def test_names_are_plain(tmp_path, folder, name):
    assert layouts.model_name(tmp_path / folder) == name


# ── onnxruntime-web ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_for_browsers(tmp_path, content):
    written = layouts.write(tmp_path / "site", "onnxruntime-web", "x", content, force=False)
    assert written.read_bytes() == content and files(tmp_path / "site") == WEB
    labels = json.loads((tmp_path / "site/labels.json").read_text())
    assert labels == {"classes": CLASSES, "multilabel": False, "thresholds": []}
    spec = json.loads((tmp_path / "site/preprocess.json").read_text())
    assert (spec["height"], spec["width"], spec["fit"]) == (24, 24, "stretch")
    for name in ("index.html", "classify.js"):  # nothing is loaded from anywhere else
        assert "//" not in re.sub(r"(^|\s)//.*", "", (tmp_path / "site" / name).read_text())


def test_a_page_for_vectors_is_refused(tmp_path, vectors):
    with pytest.raises(TledgeError, match="takes vectors"):
        layouts.write(tmp_path / "site", "onnxruntime-web", "x", vectors, force=False)
    assert not list(tmp_path.iterdir())


# The script itself, run by Node, whose canvas and onnxruntime-web are made up: the canvas holds the picture already.
_NODE = """
import { readFileSync } from "node:fs";
const [folder, width, height] = [process.argv[2], ...process.argv.slice(3).map(Number)];
globalThis.fetch = async (url) => ({ json: async () => JSON.parse(readFileSync(url)) });
const drawn = [];
globalThis.OffscreenCanvas = class {
  constructor(width, height) { this.size = [width, height]; }
  getContext() {
    const [width, height] = this.size;
    const data = new Uint8ClampedArray(width * height * 4).map((_, index) => (index % 4 === 3 ? 255 : index % 251));
    return { fillRect() {}, drawImage: (_, ...place) => drawn.push(place), getImageData: () => ({ data }) };
  }
};
let fed;
const probabilities = { data: Float32Array.from([0.25, 0.5, 0.25]) };
const ort = {
  Tensor: class { constructor(...all) { Object.assign(this, { all }); } },
  InferenceSession: { create: async (url) => ({
    run: async (input) => { fed = { url, ...input }; return { probabilities }; },
  }) },
};
const { load, classify, decide, pixels } = await import(`file://${folder}/classify.js`);
const model = await load(ort);
const answer = await classify(model, { width, height });
const [type, data, dims] = fed.image.all;
for (const fit of ["crop", "pad"]) pixels({ width, height }, { ...model.preprocess, fit });
const decisions = [
  decide([0.6, 0.4], { multilabel: false, thresholds: [0.7, 0.3] }),
  decide([0.6, 0.4], { multilabel: false, thresholds: [] }),
  decide([0.6, 0.4, 0.7], { multilabel: true, thresholds: [] }),
  decide([0.6, 0.4], { multilabel: true, thresholds: [0.7, 0.3] }),
];
const [head, size, url] = [[...data.slice(0, 6)], data.length, fed.url];
console.log(JSON.stringify({ answer, type, head, size, dims, drawn, decisions, url }));
"""


def test_the_script_feeds_the_graph_what_it_wants(tmp_path, content):
    node = shutil.which("node")
    if not node:
        pytest.skip("Node (node) is not installed")
    layouts.write(tmp_path / "site", "onnxruntime-web", "x", content, force=False)
    (tmp_path / "site/package.json").write_text('{"type": "module"}')
    (tmp_path / "run.mjs").write_text(_NODE)
    command = [node, tmp_path / "run.mjs", tmp_path / "site", "48", "24"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["answer"] == {"probabilities": [0.25, 0.5, 0.25], "labels": ["two\nlines"]}
    assert (found["type"], found["dims"], found["size"]) == ("uint8", [1, 24, 24, 3], 24 * 24 * 3)
    assert found["head"] == [0, 1, 2, 4, 5, 6]  # every fourth byte, the transparency, is left out
    assert found["drawn"] == [[0, 0, 24, 24], [-12, 0, 48, 24], [0, 6, 24, 12]]  # stretch, crop, pad
    assert found["decisions"] == [[1], [0], [0, 2], [1]]
    assert found["url"].endswith("/site/model.onnx")


# ── Whole or not at all, and nothing of somebody else's ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("layout", "name"), [("triton", "m"), ("onnxruntime-web", "")])
def test_a_folder_is_replaced_only_by_force_and_only_if_it_is_ours(tmp_path, content, layout, name):
    out = tmp_path / "out"
    layouts.check_free(out, layout, name, force=False)
    written = layouts.write(out, layout, name, content, force=False)
    with pytest.raises(OutputError, match="exists already"):
        layouts.check_free(out, layout, name, force=False)
    layouts.check_free(out, layout, name, force=True)
    layouts.write(out, layout, name, content, force=True)
    written.with_name("thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        layouts.check_free(out, layout, name, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_another_repository_is_not_replaced(tmp_path, content):
    layouts.write(tmp_path / "models", "triton", "first", content, force=False)
    with pytest.raises(OutputError):
        layouts.check_free(tmp_path / "models", "triton", "second", force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        layouts.check_free(tmp_path / "file", "triton", "m", force=True)


def test_a_failed_write_leaves_nothing(tmp_path, content, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        layouts.write(tmp_path / "models", "triton", "m", content, force=False)
    assert not list(tmp_path.iterdir())


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run over vectors, which needs no backbone; its folder's name is no name for Triton."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    y = np.arange(60) % 3
    np.savez(folder / "data.npz", x=(rng.normal(0, 0.3, (60, 4)) + y[:, None]).astype(np.float32), y=y)
    tledge.train(folder / "data.npz", folder / "first run")
    return folder / "first run"


def test_export_in_a_layout(small_run, tmp_path):
    words = ["export", str(small_run), "--precision", "fp32", "--layout", "triton", "--out", str(tmp_path / "models")]
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    model = tmp_path / "models/first_run/1/model.onnx"
    assert (found["layout"], found["out"], found["model"]) == ("triton", str(tmp_path / "models"), str(model))
    assert Predictor(model).digest == found["digest"] and tledge.verify(model).passed
    assert CliRunner().invoke(app, words).exit_code == 2
    result = CliRunner().invoke(app, [*words, "--force"], catch_exceptions=False)
    assert result.exit_code == 0 and f"Folder for triton: {tmp_path / 'models'}" in result.stdout


def test_layouts_that_cannot_be(small_run, tmp_path):
    for more, said in (
        ({"layout": "tritno"}, "Did you mean triton?"),
        ({"layout": "triton", "precision": "keras"}, "not for a Keras model"),
        ({"layout": "onnxruntime-web", "precision": "fp32"}, "takes vectors"),
    ):
        with pytest.raises(TledgeError, match=re.escape(said)):
            tledge.export(small_run, tmp_path / "out", **more)
    assert not list(tmp_path.iterdir())
