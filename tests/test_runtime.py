"""The runtime: what it predicts, what it refuses, and how little it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import draw_photo, make_backbone, make_head, make_manifest, make_model, make_photos

from tledge import heads
from tledge.decode import decode
from tledge.errors import DataError, EngineError, ModelError
from tledge.modalities.image import fit_into
from tledge.model.join import join
from tledge.runtime import MANIFEST_KEY, Predictor
from tledge.seal import seal

CLASSES = ("left", "", "line\nbreak", "naïve “x” \\ 日本 😀", "no text \udc80", '{"json": [1]}')


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(make_model(tmp_path / "model.onnx"))


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return sorted(str(path) for path in make_photos(tmp_path / "photos", ["a", "b"], 9, size=31).rglob("*.*"))


def sealed_with(tmp_path: Path, text: str | None) -> Path:
    """Write a model that is ours in all but the manifest, which is `text`."""
    model = join(make_backbone(tmp_path / "graphs"), heads.graph(make_head(2), 8))
    if text is not None:
        model.metadata_props.add(key=MANIFEST_KEY, value=text)
    path = tmp_path / "odd.onnx"
    path.write_bytes(seal(model.SerializeToString()))
    return path


# ── Predictions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_paths_and_the_arrays_in_them_give_the_same(predictor, paths):
    by_path = predictor(paths)
    by_array = predictor([decode(path) for path in paths])
    by_pathlib = predictor([Path(path) for path in paths])
    assert [each.path for each in by_path] == paths
    assert by_pathlib == by_path
    assert [replace(each, path="") for each in by_path] == by_array
    assert len({each.probability for each in by_path}) > 10


def test_a_prediction_names_the_most_probable_class(predictor, paths):
    for prediction, row in zip(predictor(paths), predictor.probabilities(paths), strict=True):
        assert prediction.probabilities == {"left": float(row[0]), "right": float(row[1])}
        assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.__getitem__)
        assert prediction.probability == max(prediction.probabilities.values())
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_many_at_once_and_one_at_a_time_agree(predictor, paths):
    together = predictor.probabilities(paths)
    assert together.shape == (18, 2)
    apart = np.concatenate([predictor.probabilities([path]) for path in paths])
    np.testing.assert_allclose(apart, together, atol=1e-6)
    np.testing.assert_allclose(predictor.probabilities(paths[::-1]), together[::-1], atol=1e-6)


def test_one_picture_needs_no_list(predictor, paths):
    assert predictor(paths[0]) == predictor(Path(paths[0])) == predictor([paths[0]])
    picture = decode(paths[0])
    assert predictor(picture) == predictor([picture])


def test_bytes_of_a_file_are_its_picture(predictor, paths):
    contents = [Path(path).read_bytes() for path in paths]
    np.testing.assert_array_equal(predictor.probabilities(contents), predictor.probabilities(paths))
    assert predictor(contents[0])[0].label == predictor(paths[0])[0].label
    assert predictor(contents[0])[0].path == ""
    with pytest.raises(DataError, match="Picture of 9 bytes"):
        predictor([contents[0], b"photo.jpg"])


def test_a_stack_of_arrays_is_a_list_of_them(predictor):
    stack = np.stack([draw_photo(kind, np.random.default_rng(kind), 40) for kind in range(3)])
    assert predictor(stack) == predictor(list(stack))


def test_grey_arrays_count_as_equal_channels(predictor):
    grey = draw_photo(1, np.random.default_rng(0), 40)[:, :, 0]
    assert predictor(grey) == predictor(np.stack([grey] * 3, axis=2))


def test_nothing_gives_nothing(predictor):
    assert predictor([]) == []
    assert predictor.probabilities([]).shape == (0, 2)


def test_pixels_at_the_models_size_reach_the_graph_as_they_are(predictor):
    picture = draw_photo(2, np.random.default_rng(0), 21)
    small = np.empty((16, 16, 3), np.uint8)
    fit_into(picture, predictor.manifest.preprocess, small)
    np.testing.assert_array_equal(predictor.probabilities(picture), predictor.run(small[None]))


def test_a_picture_that_cannot_be_read_is_named(tmp_path, predictor, paths):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for bad in (tmp_path / "bad.png", tmp_path / "missing.png"):
        with pytest.raises(DataError, match=bad.name):
            predictor([paths[0], bad])


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)], ids=str
)
def test_arrays_of_another_kind_are_refused(predictor, array):
    with pytest.raises(TypeError, match="uint8"):
        predictor([array])


def test_class_names_survive_whatever_they_are(tmp_path):
    predictor = Predictor(make_model(tmp_path / "model.onnx", CLASSES))
    assert predictor.classes == CLASSES
    (prediction,) = predictor(draw_photo(0, np.random.default_rng(0), 20))
    assert tuple(prediction.probabilities) == CLASSES


def test_threads_are_those_asked_for(tmp_path):
    path = make_model(tmp_path / "model.onnx")
    assert Predictor(path, threads=1).session.get_session_options().intra_op_num_threads == 1
    assert Predictor(path, provider="cpu").provider == "cpu"
    with pytest.raises(EngineError):
        Predictor(path, provider="nonsense")


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_that_are_not_ours_are_refused(tmp_path):
    foreign = make_backbone(tmp_path / "graphs").path
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(np.random.default_rng(0).bytes(3000))
    for path in (foreign, noise):
        with pytest.raises(ModelError, match="not exported by tledge"):
            Predictor(path)
    for path in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            Predictor(path)


def test_sealed_bytes_that_are_no_graph_are_refused(tmp_path):
    path = tmp_path / "sealed.onnx"
    for body in (b"", b"tledge.manifest", np.random.default_rng(0).bytes(3000)):
        path.write_bytes(seal(body))
        with pytest.raises(ModelError):
            Predictor(path)


def manifest() -> dict[str, Any]:
    spec = make_backbone.__kwdefaults__
    backbone = {"name": "tiny", "digest": "d", "precision": "fp32"}
    from tledge.schema import Backbone, PreprocessSpec

    shape = PreprocessSpec(spec["size"], spec["size"], mean=spec["mean"], std=spec["std"])
    return asdict(make_manifest(Backbone(path=Path("x"), preprocess=shape, dimension=8, **backbone), ["left", "right"]))


@pytest.mark.parametrize("text", [None, "", "no json", "null", "[]", "3", '"text"', "{}", "[" * 100_000], ids=range(9))
def test_a_manifest_that_is_missing_or_garbage_is_refused(tmp_path, text):
    with pytest.raises(ModelError, match="no manifest that this version"):
        Predictor(sealed_with(tmp_path, text))


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "later version": lambda raw: raw.update(schema_version=2),
    "more than we know": lambda raw: raw.update(more=1),
    "less than we need": lambda raw: raw.pop("backbone"),
    "classes are a word": lambda raw: raw.update(classes="lr"),
    "classes are numbers": lambda raw: raw.update(classes=[1, 2]),
    "accuracy is a word": lambda raw: raw.update(accuracy="good"),
    "backbone is a list": lambda raw: raw.update(backbone=["tiny"]),
    "precision is unknown": lambda raw: raw.update(precision="int3"),
    "precision is a list": lambda raw: raw.update(precision=["fp32"]),
    "preprocess is missing": lambda raw: raw.pop("preprocess"),
    "preprocess is a list": lambda raw: raw.update(preprocess=[16, 16]),
    "height is a word": lambda raw: raw["preprocess"].update(height="16"),
    "fit is unknown": lambda raw: raw["preprocess"].update(fit="fold"),
    "interpolation is unknown": lambda raw: raw["preprocess"].update(interpolation=None),
    "golden is a number": lambda raw: raw.update(golden=3),
    "golden is half": lambda raw: raw.update(golden=[{"png": ""}]),
    "one class too many": lambda raw: raw["classes"].__iadd__(["more"]),
    "no class": lambda raw: raw.update(classes=[]),
    "another height": lambda raw: raw["preprocess"].update(height=17),
    "a vast width": lambda raw: raw["preprocess"].update(width=10**12),
}


def test_a_manifest_that_is_right_is_read(tmp_path):
    assert Predictor(sealed_with(tmp_path, json.dumps(manifest()))).classes == ("left", "right")


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_a_manifest_that_does_not_hold_is_refused(tmp_path, spoil):
    raw = json.loads(json.dumps(manifest()))
    spoil(raw)
    with pytest.raises(ModelError, match="manifest"):
        Predictor(sealed_with(tmp_path, json.dumps(raw)))


# ── Weight ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after `code`."""
    child = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(child.stdout.split())


HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "typer", "rich", "matplotlib", "pygal", "jinja2", "scipy", "sqlite3"}


def test_importing_the_runtime_loads_numpy_and_little_else():
    loaded = loaded_after("import tledge.runtime")
    assert not loaded & (HEAVY | {"PIL"})
    assert loaded & {"tledge", "numpy"} == {"tledge", "numpy"}


def test_predicting_from_arrays_needs_neither_pillow_nor_onnx(tmp_path):
    path = make_model(tmp_path / "model.onnx")
    loaded = loaded_after(f"""
import numpy
from tledge.runtime import Predictor
Predictor({str(path)!r})(numpy.zeros((40, 30, 3), numpy.uint8))
""")
    assert not loaded & (HEAVY | {"PIL"})
    assert "onnxruntime" in loaded
