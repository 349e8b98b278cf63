"""Texts as data: tables and folders of them, what is left out and where, and predictions on lines and texts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_model
from test_data_table import problems, put_table
from typer.testing import CliRunner

import tledge
from tledge import data
from tledge.cli.app import app
from tledge.errors import DataError
from tledge.modalities.text import TOKENIZER_KEY
from tledge.schema import Backbone, TextSpec

onnx = pytest.importorskip("onnx", reason="onnx (extra train) is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers (extra text) is not installed")
pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra parquet) is not installed")

_PAIRS = [(f"where is {name}", "place") for name in "abcdef"] + [(f"who is {name}", "person") for name in "abcdef"]


def put_texts(root: Path, pairs=tuple(_PAIRS), name: str = "questions.csv") -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([("text", "label"), *pairs])
    return put_table(root, text.getvalue(), name)


# ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bom.csv", '\ufeffText,Label\r\n"What, then?",a\r\n\r\n" Who\r\nis it? ",b\r\n'),
        ("semicolon.csv", 'label;text\na;What, then?\nb;"Who\r\nis it?"\n'),
        ("tabs.tsv", 'text\tlabel\tnote\nWhat, then?\ta\tx\n"Who\r\nis it?"\tb\ty\n'),
        ("lines.jsonl", '{"text": "What, then?", "label": "a"}\n\n{"label": ["b"], "text": "Who\\r\\nis it?\\n"}'),
    ],
)
def test_the_dialects_of_tables_of_texts(tmp_path, name, text):
    samples, skipped = data.load_labelled(put_table(tmp_path, text, name), ["a", "b"], name.startswith("lines"))
    assert [(sample.value, sample.label, sample.kind) for sample in samples] == [
        ("What, then?", 0, "text"),
        ("Who\r\nis it?", 1, "text"),
    ]
    assert samples[0].digest == hashlib.sha256(b"What, then?").hexdigest() and not skipped


def test_a_parquet_table_is_read_like_any_other(tmp_path):
    from pyarrow import parquet

    rows = {"text": ["x", None, "y", "x "], "label": [0.0, 1.0, 1.0, None], "split": ["train", "test", "test", "train"]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "set.parquet")
    samples, skipped = data.load_labelled(tmp_path / "set.parquet", ["0", "1"])
    assert [(Path(sample.path).name, sample.value, sample.label) for sample in samples] == [
        ("set.parquet row 3", "y", 1)
    ]
    assert [(Path(each.path).name, each.reason) for each in skipped] == [
        ("set.parquet row 2", "its text is empty"),
        ("set.parquet row 4", "has no label"),
    ]
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "set.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read as Parquet"):
        data.load(tmp_path / "cut.parquet")


def test_texts_that_cannot_be_used_are_listed_with_their_line(tmp_path):
    rows = ["text,label,split,group", '"two\nlines",place,,', ",place,,", '"  \t",place,,', "who,,,", "who,person,dev,"]
    rows += ["who,person", "a\0b,person,,g1", "\u3000,person,,"]
    rows += [f"{text},{label},,g{number}" for number, (text, label) in enumerate(_PAIRS)]
    found = data.load(put_table(tmp_path, "\n".join(rows), "q.csv"))
    assert problems(found) == {
        "q.csv line 4": "its text is empty",
        "q.csv line 5": "its text is empty",
        "q.csv line 6": "has no label",
        "q.csv line 7": "its split must be train, val or test; found 'dev'",
        "q.csv line 8": "has 2 cells, but the header names 4",
        "q.csv line 10": "its text is empty",
    }
    assert "two\nlines" in {sample.value for sample in (*found.train, *found.test)}
    assert {sample.group for sample in found.train}.isdisjoint({sample.group for sample in found.test} - {None})


def test_lines_of_json_without_a_text_are_listed(tmp_path):
    lines = [{"text": "a", "label": "x"}, {"text": 7, "label": "x"}, {"label": "x"}, {"text": "\ud800", "label": "x"}]
    table = put_table(tmp_path, "\n".join(map(json.dumps, lines)), "q.jsonl")
    samples, skipped = data.load_labelled(table, ["x"])
    assert len(samples) == 1
    reasons = {Path(each.path).name: each.reason for each in skipped}
    assert reasons["q.jsonl line 2"] == "its text must be a string"
    assert reasons["q.jsonl line 3"].startswith('must be like {"text": ')
    assert "half of a character" in reasons["q.jsonl line 4"]


def test_equal_texts_all_count_stay_together_and_contradict_each_other(tmp_path):
    pairs = [*_PAIRS, *_PAIRS, ("where is a ", "person")]
    table = put_texts(tmp_path, pairs)
    found = data.load(table)
    assert len(found.train) + len(found.test) == 25
    assert {sample.digest for sample in found.train}.isdisjoint(sample.digest for sample in found.test)
    reasons = {Path(each.path).name: each.reason for each in found.conflicts}
    assert set(reasons) == {"questions.csv line 2", "questions.csv line 14", "questions.csv line 26"}
    assert "labelled 'person', but the same text is labelled 'place' at" in reasons["questions.csv line 26"]


def test_several_labels_make_a_multilabel_set_of_texts(tmp_path):
    pairs = [("a", "x|y"), ("b", "x"), ("c", "y"), ("d", ""), ("e", "x"), ("f", "y")]
    found = data.load(put_texts(tmp_path, pairs))
    assert found.multilabel and found.classes == ("x", "y") and not found.skipped
    assert {sample.value: sample.labels for sample in (*found.train, *found.test)}["a"] == (0, 1)


def test_a_cell_of_ten_megabytes_is_a_text(tmp_path):
    limit = csv.field_size_limit()
    long = "what is it? " * 900_000
    found = data.load(put_texts(tmp_path, [*_PAIRS, (long, "place")]))
    assert max(len(sample.value) for sample in (*found.train, *found.test)) == len(long.strip())
    assert csv.field_size_limit() == limit


def test_a_table_of_paths_may_tell_texts_too(tmp_path):
    table = put_table(tmp_path, "path,text,label\ngone.png,a caption,cat\n")
    with pytest.raises(DataError, match=r"names no usable picture .*gone.png: no such file"):
        data.load(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\n", "holds no row that can be used"),
        ("text,label\n,a\n", r"holds no row that can be used \(.*line 2: its text is empty\)"),
        ("text,label,text\na,b,c\n", "names 'text' twice"),
        ('text,label\n"open,a\n', "line 2 is not CSV"),
        ("text,label\ncaf\xe9,a\n".encode("latin-1"), "line 2 must be UTF-8; found byte 0xe9"),
        ("question,label\nwho?,a\n", "line 2: column 'question' must be a number; found 'who.', and so in every row"),
        ("question,sort\nwho?,a\n", "line 1 must name the columns path,label.*text,label.*found 'question,sort'"),
    ],
)
def test_what_is_wrong_with_a_table_of_texts_is_said(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        data.load(put_table(tmp_path, text))


# ── Folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def put_folder(root: Path) -> Path:
    for text, label in _PAIRS:
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{text}.txt").write_text(text)
    return root


def test_a_folder_and_a_table_of_the_same_texts_are_one_dataset(tmp_path):
    folder, table = data.load(put_folder(tmp_path / "texts")), data.load(put_texts(tmp_path))
    assert folder.fingerprint == table.fingerprint
    assert {sample.kind for sample in folder.train} == {"text"}


def test_files_that_are_no_text_are_listed(tmp_path):
    folder = put_folder(tmp_path / "texts")
    bad = {
        "empty.txt": b"",
        "blank.TXT": b" \n",
        "latin.txt": b"caf\xe9",
        "wide.txt": "a".encode("utf-16"),
        "a.md": b"a",
    }
    for name, content in bad.items():
        (folder / "place" / name).write_bytes(content)
    (folder / "README.txt").write_text("about these")
    (folder / "nothing").mkdir()
    reasons = {Path(each.path).name: each.reason for each in data.load(folder).skipped}
    assert reasons == {
        "empty.txt": "empty file (0 bytes)",
        "blank.TXT": "the text is empty",
        "latin.txt": "a text must be UTF-8, found byte 0xe9 at offset 3",
        "wide.txt": "a text must be UTF-8, this is UTF-16",
        "a.md": "not a picture, a sound or a text",
        "README.txt": "in no class folder",
        "nothing": "class folder without a usable sample",
    }


def test_notes_among_pictures_are_no_samples(tmp_path):
    folder = put_folder(tmp_path / "both")
    for label in ("place", "person"):
        for number in range(2):
            (folder / label / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]) + label.encode())
    found = data.load(folder)
    assert {sample.kind for sample in (*found.train, *found.test)} == {"image"}
    assert {each.reason for each in found.skipped} == {"a text among pictures"}


def test_texts_and_pictures_are_not_trained_on_together(tmp_path):
    pictures = tmp_path / "pictures"
    for label in ("place", "person"):
        (pictures / label).mkdir(parents=True)
        (pictures / label / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + label.encode())
    with pytest.raises(DataError, match=r"of one kind; found texts \(.*line 2\) and pictures"):
        data.load(put_texts(tmp_path), test_data=pictures)


# ── Predictions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def make_text_backbone(folder: Path) -> Backbone:
    """Write a backbone that averages one vector of eight numbers per word, and holds the tokenizer of few words."""
    from onnx import TensorProto, helper, numpy_helper

    words = ["[PAD]", "[UNK]", *"abcdef", "where", "who", "is"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    text = tokenizer.to_str()
    table = np.random.default_rng(0).normal(size=(len(words), 8)).astype(np.float32)
    axes = {"one": np.array([1]), "last": np.array([2])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["weight"]),
        helper.make_node("Mul", ["vectors", "weight"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weight", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["features"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "T"]) for name in ("input_ids", "attention_mask")
    ]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 8])
    weights = [numpy_helper.from_array(value, name) for name, value in {"table": table, **axes}.items()]
    graph = helper.make_graph(nodes, "words", inputs, [features], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key=TOKENIZER_KEY, value=text)
    folder.mkdir(parents=True)
    path = folder / "words.onnx"
    onnx.save(model, path)
    spec = TextSpec(64, hashlib.sha256(text.encode()).hexdigest())
    return Backbone("words", path, spec, 8, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    return make_model(folder / "model.onnx", ("person", "place"), make_text_backbone(folder / "graphs"))


def shares(result) -> dict[str, float]:
    return {each.path: round(each.probabilities["person"], 6) for each in result.predictions}


def test_a_text_is_the_same_wherever_it_stands(tmp_path, model):
    put_table(tmp_path, "who is a\r\nwhere is b\n", "lines.txt")
    put_table(tmp_path, "note,text\nx,who is a\ny,where is b\n", "table.csv")
    put_table(tmp_path, "who is a", "one_who.txt")
    given = shares(tledge.predict(model, texts=["who is a", "where is b"]))
    assert given["who is a"] != given["where is b"]
    by_line = shares(tledge.predict(model, lines=tmp_path / "lines.txt"))
    assert by_line == {f"{tmp_path}/lines.txt line {n}": share for n, share in enumerate(given.values(), start=1)}
    by_row = shares(tledge.predict(model, [tmp_path / "table.csv"]))
    assert by_row == {f"{tmp_path}/table.csv line {n}": share for n, share in enumerate(given.values(), start=2)}
    by_file = shares(tledge.predict(model, [tmp_path / "one_who.txt"]))
    assert list(by_file.values()) == [given["who is a"]]


def test_a_long_text_among_short_ones_changes_none_of_them(model):
    texts = ["who is a", "where is b " * 30, "is", "who who who who who who who who is"]
    together = shares(tledge.predict(model, texts=texts))
    apart = {text: shares(tledge.predict(model, texts=[text]))[text] for text in texts}
    assert together == apart


def test_the_command_reads_texts_lines_and_standard_input(tmp_path, model):
    said = CliRunner().invoke(app, ["predict", str(model), "--text", "who is a", "--text", "where is b", "--json"])
    assert said.exit_code == 0
    assert [each["path"] for each in json.loads(said.stdout)["predictions"]] == ["who is a", "where is b"]
    for arguments in (["-"], ["--lines", "-"]):
        said = CliRunner().invoke(app, ["predict", str(model), *arguments, "--json"], input="\ufeffwho is a\n\nwhere\n")
        document = json.loads(said.stdout)
        assert said.exit_code == 2
        assert [each["path"] for each in document["predictions"]] == ["stdin line 1", "stdin line 3"]
        assert document["skipped"] == [{"path": "stdin line 2", "reason": "the text is empty"}]
    said = CliRunner().invoke(app, ["predict", str(model), "-"], input=b"who is a\n\xff\xfe\x00\nwho \xe9\n")
    assert said.exit_code == 2 and "stdin line 1" in said.stdout
    said = CliRunner().invoke(app, ["predict", str(model), "--lines", str(tmp_path / "none.txt")])
    assert said.exit_code == 2 and "none.txt cannot be read" in said.stderr
    said = CliRunner().invoke(app, ["predict", str(model)])
    assert said.exit_code == 2 and "At least one text is needed" in said.stderr


def test_texts_for_a_model_of_pictures_are_refused(tmp_path):
    pictures = make_model(tmp_path / "pictures.onnx")
    for given in ({"texts": ["who"]}, {"lines": tmp_path / "x.txt"}, {"paths": ["-"]}):
        with pytest.raises(DataError, match="takes pictures, not texts"):
            tledge.predict(pictures, **given)


def test_a_predictor_takes_texts_paths_and_bytes(tmp_path, model):
    predictor = tledge.Predictor(model)
    file = tmp_path / "a.txt"
    file.write_text("who is a")
    rows = predictor.probabilities(["who is a", file, b"who is a"])
    assert (rows == rows[0]).all()
    assert predictor("who is a")[0].label == predictor(["who is a"])[0].label
    with pytest.raises(DataError, match=r"Text ' +': the text is empty\. Replace"):
        predictor(["  "])
    with pytest.raises(TypeError, match="A text must be a str, a path or bytes; found int"):
        predictor([3])


def test_a_model_file_that_lost_its_tokenizer_is_refused(tmp_path, model):
    from tledge.errors import ModelError
    from tledge.seal import seal

    lost = onnx.load(model)
    kept = [each for each in lost.metadata_props if each.key != TOKENIZER_KEY]
    del lost.metadata_props[:]
    lost.metadata_props.extend(kept)
    path = tmp_path / "lost.onnx"
    path.write_bytes(seal(lost.SerializeToString()))
    with pytest.raises(ModelError, match=r"must hold its tokenizer.*found none"):
        tledge.Predictor(path)


def test_evaluate_reads_folders_and_tables_alike(tmp_path, model):
    folder, table = put_folder(tmp_path / "texts"), put_texts(tmp_path)
    assert tledge.evaluate(model, folder).metrics == tledge.evaluate(model, table).metrics
