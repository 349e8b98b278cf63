"""int8 that breaks a budget: the fewest layers go back to float, or nothing is written and a table says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_backbone, make_photos
from typer.testing import CliRunner

import tledge
from tledge.cli.app import app
from tledge.commands.exporting import mixed
from tledge.errors import CheckFailed
from tledge.schema import LayerSensitivity, TrainResult

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")

SPOILT = {"first": (3000, -30000), "second": (3000, 30000)}


def spoil(path: Path, layers: tuple[str, ...]) -> Path:
    """Give each of `layers` one weight so large that one scale leaves nothing of the rest, not even its sum."""
    model = onnx.load(path)
    for each in model.graph.initializer:
        layer, _, role = each.name.partition(".")
        if layer in layers and role in ("weight", "bias"):
            value = onnx.numpy_helper.to_array(each).copy()
            value.flat[0] = SPOILT[layer][role == "bias"]
            each.CopyFrom(onnx.numpy_helper.from_array(value, each.name))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    make_photos(folder / "photos", ("cat", "dog", "owl"), 24, seed=4)
    return folder


@pytest.fixture(scope="module")
def one_bad(place: Path) -> TrainResult:
    """A run whose first layer loses everything in int8 with one scale for all its weights."""
    network = spoil(make_backbone(place, name="one").path, ("first",))
    return tledge.train(place / "photos", place / "one-run", backbone=network)


@pytest.fixture(scope="module")
def both_bad(place: Path) -> TrainResult:
    """A run both layers of which do; more than half of the multiply-adds are in the second."""
    network = spoil(make_backbone(place, name="both").path, ("first", "second"))
    return tledge.train(place / "photos", place / "both-run", backbone=network)


def test_the_layer_that_is_bad_goes_back_alone(one_bad: TrainResult, tmp_path: Path) -> None:
    assert one_bad.metrics.accuracy > 0.8
    plain = tledge.export(one_bad.run, tmp_path / "plain.onnx", per_tensor=True, min_agreement=0)
    assert plain.accuracy.after < 0.6 and plain.float_layers == () and len(plain.candidates) == 1
    found = tledge.export(one_bad.run, tmp_path / "m.onnx", per_tensor=True, min_agreement=0.9, max_drop=5)
    assert found.float_layers == ("net/first",) and found.precision == "int8"
    assert found.accuracy.after >= found.accuracy.before - 0.05 and found.parity.agreement >= 0.9
    assert [(each.float_layers, each.chosen) for each in found.candidates] == [(0, False), (1, True)]
    assert found.candidates[0].reason == "breaks --min-agreement, --max-drop" and found.candidates[1].reason == ""
    assert found.candidates[1].bytes == found.bytes > plain.bytes
    assert replace(found.quantization, float_nodes=()) == plain.quantization
    assert [(each.name, each.asked) for each in found.quantization.float_nodes] == [("net/first", True)]
    assert {"sensitivities", "quantize", "extract"} <= found.seconds.keys()
    assert tledge.verify(found.model).passed
    assert tledge.evaluate(found.model, one_bad.data).metrics.accuracy > 0.8
    weights = {each.name: each.data_type for each in onnx.load(found.model).graph.initializer}
    kinds = {name: onnx.TensorProto.DataType.Name(kind) for name, kind in weights.items() if "weight" in name}
    assert {kind for name, kind in kinds.items() if "first" in name} == {"FLOAT"}
    assert "INT8" in {kind for name, kind in kinds.items() if "second" in name}


def test_nothing_is_tried_where_every_budget_is_kept(one_bad: TrainResult, tmp_path: Path) -> None:
    found = tledge.export(one_bad.run, tmp_path / "m.onnx", min_agreement=0.5, max_drop=20)  # with a scale per channel
    assert found.float_layers == () and len(found.candidates) == 1 and "sensitivities" not in found.seconds


def test_layers_that_may_not_go_back_end_in_a_table_and_no_file(both_bad: TrainResult, tmp_path: Path) -> None:
    arguments = ["export", both_bad.run, "--out", str(tmp_path / "m.onnx"), "--per-tensor", "--max-drop", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 1 and document["error"]["kind"] == "check_failed"
    assert "with 1 of the layers back in float" in document["error"]["message"]
    assert "No file was written" in result.stderr and "int8 breaks --min-agreement, --max-drop. " in result.stderr
    assert [each["float_layers"] for each in document["candidates"]] == [0, 1]
    assert all("--max-drop" in each["reason"] and not each["chosen"] for each in document["candidates"])
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 1 and "int8, 1 layers float" in shown.stdout and "breaks --min-agreement" in shown.stdout
    assert not any(tmp_path.iterdir())


def test_what_the_float_model_breaks_too_is_not_searched_for(one_bad: TrainResult, tmp_path: Path) -> None:
    arguments = ["export", one_bad.run, "--out", str(tmp_path / "m.onnx"), "--per-tensor", "--max-drop", "-50"]
    result = CliRunner().invoke(app, [*arguments, "--json", "-v"])
    assert result.exit_code == 1 and not any(tmp_path.iterdir())
    assert "float model breaks it too" in result.stderr and "several tries" not in result.stderr
    document = json.loads(result.stdout)
    assert document["candidates"] == [] and document["accuracy"]["before"] == one_bad.metrics.accuracy


def test_a_file_that_is_too_large_already_is_not_searched_for(one_bad: TrainResult, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"--max-drop.*--max-bytes") as caught:
        tledge.export(one_bad.run, tmp_path / "m.onnx", per_tensor=True, max_drop=1, max_bytes=100)
    assert caught.value.measured.candidates == ()


def test_auto_knows_the_mixture_as_one_more_candidate(one_bad: TrainResult, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tledge.commands.exporting.auto.SECONDS", 0.1)
    found = tledge.export(one_bad.run, tmp_path / "m.onnx", precision="auto", per_tensor=True, max_drop=5)
    assert [(each.precision, each.float_layers) for each in found.candidates] == [("fp32", 0), ("int8", 0), ("int8", 1)]
    assert "--max-drop" in found.candidates[1].reason and all(each.p50_ms for each in found.candidates)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 8, 29, 100])
def test_the_fewest_are_found_with_few_tries(most: int) -> None:
    for needed in range(1, most + 2):
        tried: list[int] = []
        found = mixed.fewest(most, lambda count, needed=needed, tried=tried: tried.append(count) or count >= needed)
        assert found == (needed if needed <= most else None)
        assert len(set(tried)) == len(tried) <= 2 * np.log2(max(most, 1)) + 2 and set(tried) <= set(range(1, most + 1))


def test_no_more_than_half_of_the_multiply_adds_go_back() -> None:
    rows = [("large", 70), ("b", 30), ("c", 20), ("d", 5), ("e", 5)]
    layers = [LayerSensitivity(name, "Conv", 1.0 / (i + 1), macs) for i, (name, macs) in enumerate(rows)]
    assert mixed.worth(layers) == ("b", "c", "d", "e")
    assert mixed.worth(layers[:1]) == ()
    unknown = [LayerSensitivity(name, "MatMul", 1.0, 0) for name in "ab"]
    assert mixed.worth(unknown) == ("a", "b")
