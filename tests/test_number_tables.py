"""Tables of numbers: which columns count, what is left out and where, and the whole way to a prediction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_data_table import problems, put_table
from typer.testing import CliRunner

import tledge
from tledge import data
from tledge.backbones.standardised import standardised
from tledge.cli.app import app
from tledge.errors import DataError, TledgeError

pytest.importorskip("onnx", reason="onnx (extra train) is not installed")
pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra parquet) is not installed")

_UNITS = np.array([1e-4, 1.0, 3e5])
_NAMES = ("thickness", "width", "weight")


def draw(count: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Draw `count` rows of three columns in units of their own; a and b differ in the smallest alone."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(0, 1, (count, 3))
    labels = [("a", "b")[number % 2] for number in range(count)]
    numbers[:, 0] += [{"a": -3, "b": 3}[label] for label in labels]
    return ((numbers + 5) * _UNITS).astype(np.float32), labels


def put_numbers(root: Path, count: int = 60, name: str = "parts.csv", label: str = "label", seed: int = 0) -> Path:
    numbers, labels = draw(count, seed)
    lines = [",".join((*_NAMES, label))]
    lines += [",".join((*map(str, row.tolist()), word)) for row, word in zip(numbers, labels, strict=True)]
    return put_table(root, "\n".join(lines) + "\n", name)


def every(dataset):
    return (*dataset.train, *dataset.test)


# ── Columns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("commas.csv", '\ufeffx,Label,y\r\n1.5,a,-2e3\r\n\r\n"3",b, .5\r\n'),
        ("semicolons.csv", "x;y;class\n1.5;-2e3;a\n3;0.5;b\n"),
        ("tabs.tsv", "target\tx\ty\na\t1.5\t-2000\nb\t3\t0.5\n"),
        ("lines.jsonl", '{"x": 1.5, "y": -2e3, "label": "a"}\n{"label": "b", "y": 0.5, "x": 3}\n'),
        ("index.csv", ",Unnamed: 0,x,y,label\n0,7,1.5,-2e3,a\n1,8,3,0.5,b\n"),
    ],
)
def test_the_dialects_of_tables_of_numbers(tmp_path, name, text):
    samples, skipped = data.load_labelled(put_table(tmp_path, text, name), ["a", "b"])
    assert [(sample.value.tolist(), sample.label, sample.kind) for sample in samples] == [
        ([1.5, -2000.0], 0, "vector"),
        ([3.0, 0.5], 1, "vector"),
    ]
    assert samples[0].value.dtype == np.float32 and not samples[0].value.flags.writeable and not skipped


def test_the_first_of_label_class_and_target_is_the_label_and_the_others_are_numbers(tmp_path):
    table = put_table(tmp_path, "target,class,x\n1,0,2\n2,1,3\n", "t.csv")
    samples, _ = data.load_labelled(table, ["0", "1"])
    assert [sample.value.tolist() for sample in samples] == [[1, 2], [2, 3]]


def test_split_and_group_are_no_numbers(tmp_path):
    rows = ["x,label,split,group"] + [f"{n},{'ab'[n % 2]},{('train', 'test')[n > 5]},p{n // 2}" for n in range(10)]
    found = data.load(put_table(tmp_path, "\n".join(rows), "t.csv"))
    assert (len(found.train), len(found.test)) == (6, 4)
    assert found.train[0].group == "p0" and found.train[0].value.tolist() == [0.0]


def test_the_numbering_of_pandas_is_left_out_and_told_of(tmp_path):
    rows = [",x,label"] + [f"{n},{n * n},{'ab'[n % 2]}" for n in range(10)]
    found = data.load(put_table(tmp_path, "\n".join(rows), "t.csv"))
    assert sorted(sample.value.tolist() for sample in every(found)) == [[float(n * n)] for n in range(10)]
    assert len(found.notes) == 1 and "column '' numbers the rows" in found.notes[0]


def test_a_table_its_parquet_and_its_arrays_are_one_dataset(tmp_path):
    from pyarrow import parquet

    numbers, labels = draw(60)
    columns = dict(zip(_NAMES, numbers.T, strict=True))
    parquet.write_table(pyarrow.table({**columns, "class": labels}), tmp_path / "parts.parquet")
    np.savez(tmp_path / "parts.npz", x=numbers, y=labels)
    found = [data.load(path) for path in (put_numbers(tmp_path), tmp_path / "parts.parquet", tmp_path / "parts.npz")]
    assert len({each.fingerprint for each in found}) == 1


# ── Cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_with_a_cell_that_is_no_number_are_listed_with_their_line(tmp_path):
    table = put_numbers(tmp_path, 8)
    odd = [
        ",1,2,a",
        "1,nan,2,a",
        "1,2,-inf,a",
        "1,1e39,2,b",
        "1,NA,x,b",
        "1,2,b",
        "1,2,3,",
        '1,"1,5",2,a',
        "1e999,2,3,a",
    ]
    table.write_text(table.read_text() + "\n".join(odd))
    assert problems(data.load(table)) == {
        "parts.csv line 10": "column 'thickness' has no value",
        "parts.csv line 11": "column 'width' must be finite in float32; found nan",
        "parts.csv line 12": "column 'weight' must be finite in float32; found -inf",
        "parts.csv line 13": "column 'width' must be finite in float32; found 1e39",
        "parts.csv line 14": "column 'width' must be a number; found 'NA'",
        "parts.csv line 15": "has 3 cells, but the header names 4",
        "parts.csv line 16": "has no label",
        "parts.csv line 17": "column 'width' must be a number; found '1,5'",
        "parts.csv line 18": "column 'thickness' must be finite in float32; found 1e999",
    }
    with pytest.raises(DataError, match=r"line 10: column 'thickness' has no value \(and 8 more\)"):
        data.load(table, strict=True)


def test_cells_of_json_may_be_anything(tmp_path):
    lines = [
        '{"x": 1, "label": "a"}',
        '{"x": null, "label": "a"}',
        '{"x": [1], "label": "a"}',
        '{"y": 1, "label": "a"}',
    ]
    lines += ['{"x": "2", "label": 1}', '{"x": true, "label": 1.0}', '{"x": 1' + 400 * "0" + ', "label": "a"}']
    samples, skipped = data.load_labelled(put_table(tmp_path, "\n".join(lines), "t.jsonl"), ["a", "1"])
    assert [(sample.value.tolist(), sample.label) for sample in samples] == [([1.0], 0), ([2.0], 1), ([1.0], 1)]
    reasons = {Path(each.path).name: each.reason for each in skipped}
    assert reasons["t.jsonl line 2"] == "column 'x' has no value"
    assert reasons["t.jsonl line 3"] == "column 'x' must be a number; found '[1]'"
    assert reasons["t.jsonl line 4"] == 'must be like {"x": …, "label": …}'
    assert reasons["t.jsonl line 7"].startswith("column 'x' must be finite in float32; found 1000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x,label\niris,1,a\nrose,2,b\n", "line 2: column 'name' must be a number; found 'iris', and so in every"),
        ("x,label\n", "holds no row that can be used"),
        ("x,label\n1,a\n2,a\n", "At least 2 classes are needed"),
        ("1.5,2,label\n3,4,a\n", r"line 1 must name the columns; found '1\.5,2,label'"),
        ("x,x,label\n1,2,a\n", "names 'x' twice"),
        ("label,split\na,train\n", "line 1 must name the columns path,label.*or label beside columns of numbers"),
        ("x,y\n1,2\n", "line 1 must name the columns path,label.*found 'x,y'"),
    ],
)
def test_what_is_wrong_with_a_table_of_numbers_is_said(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        data.load(put_table(tmp_path, text, "t.csv"))


def test_tables_of_other_columns_do_not_go_together(tmp_path):
    short = put_table(tmp_path, "x,label\n1,a\n2,b\n", "short.csv")
    with pytest.raises(DataError, match=r"short\.csv must have the columns of numbers.*found 'x'\. "):
        data.load(put_numbers(tmp_path), test_data=short)
    np.savez(tmp_path / "short.npz", x=np.zeros((2, 1)), y=["a", "b"])
    with pytest.raises(DataError, match=r"vectors of length 3 .* and vectors of length 1"):
        data.load(put_numbers(tmp_path), test_data=tmp_path / "short.npz")


# ── The whole way ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path):
    folder = tmp_path_factory.mktemp("numbers")
    return tledge.train(put_numbers(folder, 120), folder / "run")


def test_a_column_of_small_numbers_counts_as_much_as_one_of_large_ones(trained):
    assert trained.backbone == "none" and trained.metrics.accuracy > 0.95


def test_what_never_differs_and_what_is_far_from_zero_are_standardised_without_harm(tmp_path):
    vectors = np.array([[1.0, 7.0, 1e6], [3.0, 7.0, 1e6 + 2]], np.float32)
    backbone = standardised(vectors, tmp_path)
    from tledge import engine

    session = engine.open_session(backbone.path, provider="cpu", name="none")
    found = session.run(["features"], {"vector": vectors})[0]
    assert found.tolist() == [[-1, 0, -1], [1, 0, 1]]
    assert standardised(vectors, tmp_path) == backbone
    assert standardised(vectors * 2, tmp_path).digest != backbone.digest


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_model_of_numbers_is_exported_verified_and_read_from_tables(trained, tmp_path, precision):
    exported = tledge.export(trained.run, tmp_path / "model.onnx", precision=precision)
    assert tledge.verify(exported.model).passed
    measured = tledge.bench(exported.model, seconds=0.05, threads=1, scenarios=["single_stream"])
    assert measured.scenarios["single_stream"].samples > 0
    with pytest.raises(TledgeError, match="takes vectors"):  # it takes no files
        tledge.bench(exported.model, seconds=0.05, end_to_end=True)
    new = put_numbers(tmp_path, 12, "new.csv", seed=1)
    labels = draw(12, seed=1)[1]
    new.write_text(new.read_text() + "1,,2,a\n")
    found = tledge.predict(exported.model, [new])
    assert [Path(each.path).name for each in found.predictions] == [f"new.csv line {line}" for line in range(2, 14)]
    assert [each.label for each in found.predictions] == labels
    assert [(Path(each.path).name, each.reason) for each in found.skipped] == [
        ("new.csv line 14", "column 'width' has no value")
    ]
    assert tledge.evaluate(exported.model, new).metrics.accuracy == 1


def test_a_table_without_labels_is_predicted_on(trained, tmp_path):
    numbers, _ = draw(3, seed=2)
    lines = [",".join(_NAMES), *(",".join(map(str, row.tolist())) for row in numbers)]
    said = CliRunner().invoke(
        app, ["predict", trained.model, str(put_table(tmp_path, "\n".join(lines), "t.csv")), "--json"]
    )
    assert said.exit_code == 0 and len(json.loads(said.stdout)["predictions"]) == 3
    np.save(tmp_path / "t.npy", numbers)
    by_array = tledge.predict(trained.model, [tmp_path / "t.npy"]).predictions
    assert [each["probabilities"] for each in json.loads(said.stdout)["predictions"]] == [
        each.probabilities for each in by_array
    ]


def test_a_table_of_another_width_or_without_a_header_is_refused(trained, tmp_path):
    with pytest.raises(DataError, match=r"trained on, 'thickness' among them; found 'width,y'.*thickness,"):
        tledge.predict(trained.model, [put_table(tmp_path, "width,y\n1,2\n", "narrow.csv")])
    with pytest.raises(DataError, match="line 1 must name the columns"):
        tledge.predict(trained.model, [put_table(tmp_path, "1,2,3\n4,5,6\n", "bare.csv")])
    with pytest.raises(DataError, match=r"gone\.csv cannot be read"):
        tledge.predict(trained.model, [tmp_path / "gone.csv"])


def test_columns_are_found_by_their_names(trained, tmp_path):
    numbers, _ = draw(5, seed=3)
    rows = ["name,weight,Thickness,width"] + [f"part,{row[2]},{row[0]},{row[1]}" for row in numbers.tolist()]
    found = tledge.predict(trained.model, [put_table(tmp_path, "\n".join(rows), "other.csv")]).predictions
    np.save(tmp_path / "same.npy", numbers)
    same = tledge.predict(trained.model, [tmp_path / "same.npy"]).predictions
    assert [each.probabilities for each in found] == [each.probabilities for each in same]


def test_columns_in_another_order_are_not_tested_on(trained, tmp_path):
    turned = put_table(tmp_path, "width,thickness,weight,label\n1,2,3,a\n4,5,6,b\n", "turned.csv")
    with pytest.raises(DataError, match=r"in their order; found 'width', 'thickness', 'weight'.*: thickness,"):
        tledge.evaluate(trained.model, turned)
    with pytest.raises(DataError, match=r"turned\.csv must have the columns"):
        data.load(put_numbers(tmp_path), test_data=turned)


def test_a_table_of_paths_without_labels_names_pictures(tmp_path):
    from conftest import make_model, make_photos

    make_photos(tmp_path / "photos", ["a"], 2, size=31)
    table = put_table(tmp_path, "path\nphotos/a/000.jpg\nphotos/gone.jpg\n", "list.csv")
    found = tledge.predict(make_model(tmp_path / "model.onnx"), [table])
    assert [each.path for each in found.predictions] == [str(tmp_path / "photos/a/000.jpg")]
    assert [each.path for each in found.skipped] == [str(tmp_path / "photos/gone.jpg")]


def test_a_dense_network_of_the_users_own_is_a_backbone_for_a_table(tmp_path, cache):
    from onnx import TensorProto, helper, numpy_helper, save

    weights = (np.random.default_rng(0).normal(size=(3, 6)) / _UNITS[:, None]).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", 3), ("y", 6))]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "dense.onnx")
    result = tledge.train(put_numbers(tmp_path), tmp_path / "run", backbone=str(tmp_path / "dense.onnx"))
    assert result.samples.train == 48
    assert len(tledge.predict(result.model, [tmp_path / "parts.csv"]).predictions) == 60
