from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tledge import data
from tledge.errors import DataError
from tledge.schema import Problem

PNG = b"\x89PNG\r\n\x1a\n"


def put(root: Path, *names: str, content: bytes | None = None) -> Path:
    """Write a file that passes for a picture, its content its own name or `content`, at each name below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + (os.fsencode(name) if content is None else content))
    return root


def put_table(root: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root / name


def put_numbered(root: Path, rows: dict[str, int], header: str = "path,label") -> Path:
    """Write pictures of each label, and a table that names them."""
    lines = [header]
    for label, count in rows.items():
        names = [f"{label}_{number}.png" for number in range(count)]
        put(root, *names)
        lines += [f"{name},{label}" for name in names]
    return put_table(root, "\n".join(lines) + "\n")


def problems(dataset) -> dict[str, str]:
    """Return what was left out, by the name of the table and the line."""
    return {Path(problem.path).name: problem.reason for problem in dataset.skipped}


# ── Formats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_and_a_folder_of_the_same_pictures_are_one_dataset(tmp_path):
    names = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(10)]
    put(tmp_path / "set", *names)
    table = put_table(tmp_path, "path,label\n" + "\n".join(f"set/{name},{Path(name).parent}" for name in names))
    folder, listed = data.load(tmp_path / "set"), data.load(table)
    assert listed.classes == folder.classes == ("cat", "dog")
    assert listed.fingerprint == folder.fingerprint
    assert listed.train == folder.train and listed.test == folder.test
    assert not listed.multilabel and all(sample.labels == () for sample in listed.train)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bom.csv", '\ufeffpath,label\r\na.png,cat\r\n\r\n"b, c.png",dog\r\n'),
        ("quotes.CSV", '"path","label"\n"a.png","cat"\n"b, c.png",dog\n'),
        ("semicolon.csv", 'Path; Label\na.png; cat\n"b, c.png";dog'),
        ("tabs.csv", "label\tpath\ncat\ta.png\ndog\tb, c.png\n"),
        ("tabs.tsv", "path\tlabel\na.png\tcat\nb, c.png\tdog\n"),
        ("lines.jsonl", '{"path": "a.png", "label": "cat"}\n\n{"path": "b, c.png", "label": "dog", "extra": 1}\n'),
        ("lines.ndjson", '\ufeff{"path": "a.png", "label": "cat"}\r\n{"path": "b, c.png", "label": "dog"}'),
    ],
)
def test_the_dialects_of_tables(tmp_path, name, text):
    samples, skipped = data.load_labelled(put_table(put(tmp_path, "a.png", "b, c.png"), text, name), ["cat", "dog"])
    assert [(Path(sample.path).name, sample.label) for sample in samples] == [("a.png", 0), ("b, c.png", 1)]
    assert not skipped


def test_the_order_of_rows_and_the_place_of_the_table_change_nothing(tmp_path):
    (tmp_path / "one").mkdir()
    table = put_numbered(tmp_path / "one", {"cat": 9, "dog": 9})
    first = data.load(table)
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]))
    second = data.load(table)
    assert second == first
    (tmp_path / "one").rename(tmp_path / "two")
    moved = data.load(tmp_path / "two/labels.csv")
    assert moved.fingerprint == first.fingerprint


def test_splits_are_taken_in_any_of_their_words(tmp_path):
    put(tmp_path, *(f"{number}.png" for number in range(7)))
    words = ["train", "Training", "", "VALIDATION", "test", "testing", "train"]
    labels = ["cat", "dog"] * 4
    rows = [f"{number}.png,{labels[number]},{word}" for number, word in enumerate(words)]
    found = data.load(put_table(tmp_path, "path,label,split\n" + "\n".join(rows)))
    assert (len(found.train), len(found.val), len(found.test)) == (4, 1, 2)


def test_labels_of_jsonl_may_be_numbers_and_truths(tmp_path):
    put(tmp_path, "a.png", "b.png", "c.png")
    lines = [{"path": "a.png", "label": 3}, {"path": "b.png", "label": True}, {"path": "c.png", "label": 1.5}]
    table = put_table(tmp_path, "\n".join(map(json.dumps, lines)), "x.jsonl")
    samples, skipped = data.load_labelled(table, ["3", "true"])
    assert [sample.label for sample in samples] == [0, 1]
    assert skipped[0].reason == "its label must be a string, a whole number or a list of them; found 1.5"


# ── Rows that are left out ───────────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_cannot_be_used_are_listed_with_their_line(tmp_path):
    put_numbered(tmp_path, {"cat": 3, "dog": 3})
    put(tmp_path, "x.png", "y.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    rows = [
        "path,label,split,note",
        "gone.png,cat,,",
        'cat_0.png,"cat",,"two\nlines"',
        "text.png,cat,,",
        "folder,cat,,",
        "pipe,dog,,",
        "x.png,,,",
        ",cat,,",
        "x.png,cat,dev,",
        "x.png,cat",
        "y, z.png,cat,,",
        "cat_0.png,cat,,",
        "./cat_1.png,cat,,",
        "cat_1.png,cat,,",
        "a\0b.png,cat,,",
    ]
    rows += [f"dog_{number}.png,dog,," for number in range(3)]
    found = data.load(put_table(tmp_path, "\n".join(rows)))
    assert problems(found) == {
        "labels.csv line 2": "gone.png: no such file",
        "labels.csv line 5": "text.png: not a picture, a sound or a text",
        "labels.csv line 6": "folder: not a regular file",
        "labels.csv line 7": "pipe: not a regular file",
        "labels.csv line 8": "x.png: has no label",
        "labels.csv line 9": "names no path",
        "labels.csv line 10": "its split must be train, val or test; found 'dev'",
        "labels.csv line 11": "has 2 cells, but the header names 4",
        "labels.csv line 12": "has 5 cells, but the header names 4 (a cell that holds ',' must stand in quotes)",
        "labels.csv line 13": "cat_0.png repeats line 3",
        "labels.csv line 15": "cat_1.png repeats line 14",
        "labels.csv line 16": "'a\\x00b.png' holds characters that no name can hold",
    }
    assert len(found.train) + len(found.test) == 5
    with pytest.raises(DataError, match=r"labels\.csv line 2: gone\.png: no such file \(and 11 more\)"):
        data.load(tmp_path / "labels.csv", strict=True)


def test_lines_that_are_no_json_are_listed(tmp_path):
    put(tmp_path, "a.png", "b.png")
    lines = [
        '{"path": "a.png", "label": "cat"}',
        "{",
        "[1]",
        '{"path": "b.png"}',
        '{"path": 5, "label": "cat"}',
        '{"path": "\\ud800.png", "label": "cat"}',
        "[" * 100_000,
        '{"path": "b.png", "label": {"a": 1}}',
        '{"path": "b.png", "label": null}',
    ]
    _, skipped = data.load_labelled(put_table(tmp_path, "\n".join(lines), "x.jsonl"), ["cat", "dog"])
    found = [(Path(problem.path).name, problem.reason) for problem in skipped]
    assert [name for name, _ in found] == [f"x.jsonl line {line}" for line in range(2, 10)]
    assert "is not JSON" in found[0][1] and "is not JSON" in found[5][1]
    assert found[1][1] == found[2][1] == 'must be like {"path": "cat/1.jpg", "label": "cat"}'
    assert found[3][1] == "its path must be a string" and "no name can hold" in found[4][1]
    assert found[7][1] == "b.png: has no label"


def test_a_file_under_two_labels_is_a_conflict_that_names_both_lines(tmp_path):
    table = put_numbered(tmp_path, {"cat": 5, "dog": 5})
    table.write_text(table.read_text() + "cat_0.png,dog\n")
    found = data.load(table)
    both = {problem.path: problem.reason for problem in found.conflicts}
    path = tmp_path / "cat_0.png"
    assert both == {
        f"{table} line 2": f"{path}: labelled 'cat', but the same picture is labelled 'dog' at {table} line 12",
        f"{table} line 12": f"{path}: labelled 'dog', but the same picture is labelled 'cat' at {table} line 2",
    }
    assert sum(sample.path == str(path) for sample in found.train) == 2
    with pytest.raises(DataError, match=r"line 2: .*labelled 'cat', but"):
        data.load(table, strict=True)


def test_a_picture_that_is_trained_and_tested_on_is_reported(tmp_path):
    put(tmp_path, "a.png", "b.png")
    table = put_table(tmp_path, "path,label,split\na.png,cat,train\nb.png,dog,train\na.png,cat,test\n")
    (leak,) = data.load(table).conflicts
    assert leak.path == f"{table} line 4"
    assert leak.reason.endswith(f"the same picture is in the training data at {table} line 2")


# ── Tables that are none ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1 must name the columns path,label and.*found ''"),
        ("a.png,cat\nb.png,dog", "line 1 must name the columns path,label.*found 'a.png,cat'"),
        ("file,sort\na.png,cat", "line 1 must name the columns path,label"),
        ("file,class\na.png,cat", "line 2: column 'file' must be a number; found 'a.png', and so in every row.*path"),
        ("path,label,path\n", "names 'path' twice"),
        ("path,label\na.png,cat\nb\xe9.png,dog".encode("latin-1"), "line 3 must be UTF-8; found byte 0xe9"),
        ("path,label\na.png,cat\n".encode("utf-16"), "must be UTF-8; found UTF-16"),
        ('path,label\na.png,cat\n"b.png,dog\nc.png,dog\n', "line 3 is not CSV"),
        ('path,label\na.png,cat\n"b"x.png,dog\n', "line 3 is not CSV"),
        ("path,label\n" + "x" * 200_000 + ",cat\n", "line 2: its path is longer than 4,096 characters"),
        ("path,label\n", "names no usable picture"),
        ("path,label\ngone.png,cat\n", r"names no usable picture \(.*labels\.csv line 2: gone\.png: no such file\)"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        data.load(put_table(tmp_path, text))


def test_a_line_without_end_is_no_line_of_a_table(tmp_path):
    table = put_table(tmp_path, "path,label\n")
    with table.open("r+b") as file:
        file.truncate((1 << 26) + 100)
    with pytest.raises(DataError, match="line 2 is longer than"):
        data.load(table)


# ── Several labels ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_labels_make_a_multilabel_set(tmp_path):
    names = [f"{number}.png" for number in range(12)]
    put(tmp_path, *names)
    cells = ["cat|dog", "dog | cat|dog", "cat", "dog", "", "cat"] * 2
    rows = [f"{name},{cell}" for name, cell in zip(names, cells, strict=True)]
    found = data.load(put_table(tmp_path, "path,label\n" + "\n".join(rows)))
    assert found.multilabel and found.classes == ("cat", "dog") and not found.skipped
    labels = {Path(sample.path).stem: (sample.label, sample.labels) for sample in (*found.train, *found.test)}
    assert labels["0"] == labels["1"] == (0, (0, 1))
    assert labels["3"] == (1, (1,)) and labels["4"] == (-1, ())
    for split in (found.train, found.test):
        assert {label for sample in split for label in sample.labels} == {0, 1}


def test_a_list_makes_a_multilabel_set_too_and_its_fingerprint_knows_all_labels(tmp_path):
    put(tmp_path, *"abcdef")

    def load(last: list[str]):
        labels = [["x"], ["x"], ["y"], ["y"], [], last]
        lines = [json.dumps({"path": name, "label": label}) for name, label in zip("abcdef", labels, strict=True)]
        return data.load(put_table(tmp_path, "\n".join(lines), "x.jsonl"))

    both, one = load(["x", "y"]), load(["x"])
    assert both.multilabel and one.multilabel
    assert both.fingerprint != one.fingerprint


def test_labelled_tables_fit_the_model_or_are_refused(tmp_path):
    put(tmp_path, "a.png", "b.png")
    several = put_table(tmp_path, "path,label\na.png,cat|dog\nb.png,\n", "several.csv")
    single = put_table(tmp_path, "path,label\na.png,cat\nb.png,dog\n", "single.csv")
    samples, _ = data.load_labelled(several, ["cat", "cow", "dog"], multilabel=True)
    assert [sample.labels for sample in samples] == [(0, 2), ()]
    samples, _ = data.load_labelled(single, ["dog", "cat"], multilabel=True)
    assert [(sample.label, sample.labels) for sample in samples] == [(1, (1,)), (0, (0,))]
    with pytest.raises(DataError, match=r"several\.csv line 2 must have one label; found 2"):
        data.load_labelled(several, ["cat", "dog"])


def test_dropping_the_last_sample_of_a_label_is_an_error_in_a_multilabel_set(tmp_path):
    put(tmp_path, *"abcd")
    rows = ["a,x|y,train", "b,x,train", "c,x,test", "d,,train"]
    found = data.load(put_table(tmp_path, "path,label,split\n" + "\n".join(rows)))
    assert len(data.drop(found, [Problem(str(tmp_path / "b"), "bad")]).train) == 2
    with pytest.raises(DataError, match="no sample of 'y' is left to train on"):
        data.drop(found, [Problem(str(tmp_path / "a"), "bad")])


# ── Groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def put_patients(root: Path, column: str = "group") -> Path:
    """Write 8 patients with 4 pictures each of one label, cat for the even ones."""
    rows = []
    for number in range(32):
        patient = number // 4
        put(root, f"{number}.png")
        rows.append(f"{number}.png,{('cat', 'dog')[patient % 2]},p{patient}")
    return put_table(root, f"path,label,{column}\n" + "\n".join(rows))


def groups_of(samples) -> set[str]:
    return {sample.group for sample in samples}


def test_the_column_group_counts_unasked_and_others_when_named(tmp_path):
    for column, group_by in (("group", None), ("group", "group"), ("patient", "patient")):
        found = data.load(put_patients(tmp_path, column), group_by=group_by, test_fraction=0.25)
        assert groups_of(found.train) | groups_of(found.test) == {f"p{number}" for number in range(8)}
        assert not groups_of(found.train) & groups_of(found.test)
        assert (len(found.train), len(found.test)) == (24, 8)
    assert groups_of(data.load(put_patients(tmp_path, "patient")).train) == {None}


def test_a_pattern_that_finds_nothing_names_the_columns(tmp_path):
    with pytest.raises(DataError, match=r"'p\\d' finds nothing in '\d+\.png'.*columns are: patient"):
        data.load(put_patients(tmp_path, "patient"), group_by=r"p\d")


def test_a_group_on_both_sides_of_given_splits_is_a_conflict(tmp_path):
    put(tmp_path, *"abcde")
    rows = ["a,cat,train,p1", "b,dog,train,p2", "c,cat,test,p1", "d,cat,test,p1", "e,dog,test,"]
    table = put_table(tmp_path, "path,label,split,group\n" + "\n".join(rows))
    (leak,) = data.load(table).conflicts
    assert leak.path == f"{table} line 4"
    assert leak.reason.endswith(f"held out, but its group 'p1' is also in the training data at {table} line 2")
