"""What a graph is fed: sizes of free dimensions, made-up values, the user's own samples, weights beside the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import make_model

from tledge.errors import DataError, ModelError, TledgeError
from tledge.measurement import Subject, offline, open_subject
from tledge.measurement.feeding.inputs import Samples, samples

FLOAT, HALF, BYTES, INT8, LONG, FLAG, TEXT = (
    f"tensor({name})" for name in ("float", "float16", "uint8", "int8", "int64", "bool", "string")
)


def taken(*inputs: tuple[str, str, list[Any]], arrays: dict[str, np.ndarray] | None = None) -> Samples:
    """Return what a graph of these inputs (name, type, shape) takes, as onnxruntime would tell them."""
    told = [SimpleNamespace(name=name, type=kind, shape=shape) for name, kind, shape in inputs]
    return samples(SimpleNamespace(get_inputs=lambda: told), "m.onnx", arrays, "own.npz" if arrays else None)


def shapes(found: Samples, batch: int = 3) -> list[tuple[int, ...]]:
    return [array.shape for array in found.feed(batch).values()]


# ── Sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["batch", "N", "n", "batch_size", "unk__608", "dynamic_axes_0", None])
def test_a_free_first_dimension_is_the_batch(name):
    found = taken(("x", FLOAT, [name, 3, 8, 8]))
    assert (found.batch, found.assumed) == (None, ())
    assert shapes(found, 5) == [(5, 3, 8, 8)]


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        (FLOAT, ["batch", 3, "height", "width"], (3, 3, 224, 224)),
        (FLOAT, [None, 3, None, None], (3, 3, 224, 224)),
        (FLOAT, [None, None, None, 3], (3, 224, 224, 3)),
        (FLOAT, ["N", "C", "H", "W"], (3, 3, 224, 224)),
        (FLOAT, [None, None, None, None], (3, 3, 224, 224)),
        (FLOAT, ["batch", "sequence", 768], (3, 128, 768)),
        (FLOAT, ["batch", 80, "time"], (3, 80, 128)),
        (FLOAT, ["batch", 12, "past_sequence_length", 64], (3, 12, 0, 64)),
        (FLOAT, ["seq_len", "batch", 32], (128, 3, 32)),  # recurrent networks have time first
        (FLOAT, ["B", 3, "N"], (3, 3, 128)),  # points: N counts samples at the front alone
        (LONG, ["batch", "past_sequence_length + 1"], (3, 1)),
        (FLOAT, ["num_boxes", 4], (3, 4)),
    ],
    ids=str,
)
def test_free_dimensions_are_sized_by_name_and_place(kind, shape, expected):
    found = taken(("x", kind, shape))
    assert shapes(found) == [expected]
    assert len(found.assumed) >= sum(not isinstance(dim, int) for dim in shape) - 1


def test_a_camera_takes_one_picture_at_a_time():
    found = taken(("image", BYTES, ["N", "H", "W", 3]))
    assert (found.batch, found.assumed) == (1, ("H = 1080", "W = 1920"))
    assert shapes(found, 1) == [(1, 1080, 1920, 3)]


def test_dimensions_of_one_name_have_one_size():
    found = taken(
        ("input_ids", LONG, ["batch_size", "sequence_length"]),
        ("past.0.key", FLOAT, ["batch_size", 2, "past_sequence_length", 16]),
        ("attention_mask", LONG, ["batch_size", "past_sequence_length + sequence_length"]),
    )
    assert shapes(found) == [(3, 128), (3, 2, 0, 16), (3, 128)]
    assert found.assumed[:2] == ("sequence_length = 128", "past_sequence_length = 0")


def test_only_what_is_called_batch_is_one_where_something_is():
    found = taken(("image", FLOAT, ["batch", 3, 8, 8]), ("boxes", FLOAT, ["num_boxes", 4]))
    assert shapes(found) == [(3, 3, 8, 8), (128, 4)]
    assert found.assumed == ("num_boxes = 128",)


def test_a_fixed_batch_is_the_first_dimension_that_all_inputs_share():
    assert taken(("x", FLOAT, [1, 3, 8, 8])).batch == 1
    found = taken(("x", FLOAT, [4, 3, 8, 8]), ("lengths", LONG, [4]), ("scale", FLOAT, []))
    assert (found.batch, shapes(found, 4)) == (4, [(4, 3, 8, 8), (4,), ()])
    assert "the first dimension, 4, is the number of samples" in found.assumed
    assert taken(("x", FLOAT, [4, 8]), ("y", FLOAT, [2, 8])).batch == 1
    assert taken(("signal", FLOAT, [16000])).batch == 1  # one signal, not 16,000 of something
    assert taken(("picture", BYTES, [480, 640, 3])).batch == taken(("picture", FLOAT, [3, 480, 640])).batch == 1
    assert taken().batch == 1


# ── Made-up values ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_values_are_in_range_of_what_they_may_mean():
    found = taken(
        ("pixels", BYTES, ["N", 64]),
        ("quantized", INT8, ["N", 64]),
        ("half", HALF, ["N", 64]),
        ("input_ids", LONG, ["N", 64]),
        ("attention_mask", LONG, ["N", 64]),
        ("position_ids", LONG, ["N", 64]),
        ("token_type_ids", LONG, ["N", 64]),
        ("temperature", FLOAT, []),
        ("training", FLAG, []),
    )
    feed = found.feed(2)
    assert feed["pixels"].min() < 20 < 235 < feed["pixels"].max()
    assert feed["quantized"].min() < -100 < 100 < feed["quantized"].max()
    assert feed["half"].dtype == np.float16
    assert 0 <= feed["half"].min() < feed["half"].max() <= 1
    assert set(feed["input_ids"].ravel()) == {0, 1}  # an index into any table of two rows or more
    assert feed["attention_mask"].all()
    assert feed["position_ids"].tolist() == [list(range(64))] * 2
    assert not feed["token_type_ids"].any()
    assert feed["temperature"] == 1
    assert not feed["training"]
    for name, each in feed.items():
        assert each.dtype == {"pixels": np.uint8, "quantized": np.int8}.get(name, each.dtype)
    said = " ".join(found.assumed)
    assert "attention_mask: all 1" in said and "input_ids: 0 or 1" in said and "training: false" in said
    assert "pixels" not in said and "half" not in said


def test_made_up_values_are_the_same_every_time():
    found = taken(("x", FLOAT, ["N", 4]))
    np.testing.assert_array_equal(found.feed(2)["x"], found.feed(2)["x"])
    assert found.different(1) == 1


@pytest.mark.parametrize("kind", [TEXT, "seq(tensor(float))", "tensor(bfloat16)"])
def test_what_cannot_be_made_up_is_refused(kind):
    with pytest.raises(ModelError, match="'words'") as caught:
        taken(("words", kind, ["N"]))
    assert ("--input" in caught.value.hint) == (kind == TEXT)


# ── The user's own samples ───────────────────────────────────────────────────────────────────────────────────────────


def test_samples_come_in_turn_and_round_again():
    own = {"x": np.arange(10, dtype=np.float32).reshape(5, 2)}
    found = taken(("x", FLOAT, ["N", 2]), arrays=own)
    assert found.different(2) == 3
    assert [found.feed(2, number)["x"][:, 0].tolist() for number in range(4)] == [[0, 2], [4, 6], [8, 0], [2, 4]]
    fixed = taken(("x", FLOAT, [3, 2]), arrays=own)
    assert fixed.feed(3, 1)["x"][:, 0].tolist() == [6, 8, 0]


def test_samples_settle_the_sizes_of_what_is_made_up():
    own = {"input_ids": np.zeros((6, 77), np.int64)}
    found = taken(("input_ids", LONG, ["batch", "seq"]), ("attention_mask", LONG, ["batch", "seq"]), arrays=own)
    assert shapes(found, 2) == [(2, 77), (2, 77)]
    assert found.assumed == ("attention_mask: all 1",)


def test_a_graph_without_a_batch_takes_one_sample_or_many():
    one = taken(("picture", BYTES, [4, 4, 3]), arrays={"picture": np.ones((4, 4, 3), np.uint8)})
    assert one.different(1) == 1
    many = {"picture": np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)}
    found = taken(("picture", BYTES, ["height", "width", 3]), arrays=many)
    assert found.different(1) == 2
    np.testing.assert_array_equal(found.feed(1, 3)["picture"], many["picture"][1])


def test_samples_lie_along_the_batch_wherever_that_is():
    own = {"x": np.arange(12, dtype=np.float32).reshape(2, 3, 2), "scale": np.float32(2).reshape(())}
    found = taken(("x", FLOAT, ["time", "batch", 2]), ("scale", FLOAT, []), arrays=own)
    np.testing.assert_array_equal(found.feed(1, 1)["x"], own["x"][:, 1:2])
    assert found.feed(1, 1)["scale"] == 2


def test_texts_can_be_given():
    found = taken(("words", TEXT, ["N"]), arrays={"words": np.array(["a", "b"])})
    assert found.feed(1, 1)["words"].tolist() == ["b"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.ones((2, 3), np.float32)}, "holds 'y', which is no input of the model. There are: x, xx."),
        ({"x": np.ones((2, 3))}, "input 'x' takes float values, found float64. Convert it with: array.astype"),
        ({"x": np.ones((2, 4), np.float32)}, "input 'x' is samples × 3, found 2 × 4"),
        ({"x": np.ones(3, np.float32)}, "input 'x' is samples × 3, found 3"),
        ({"x": np.ones((0, 3), np.float32)}, "input 'x' is samples × 3, found 0 × 3"),
        ({"x": np.float32(1).reshape(())}, "found a single number"),
        ({"x": np.array([["a"]])}, "takes float values, found <U1"),
        (
            {"x": np.ones((2, 3), np.float32), "xx": np.ones((4, 1), np.float32)},
            "as many samples for each input, found 2 in 'x', 4 in 'xx'",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, value)),
)
def test_samples_that_do_not_fit_are_refused_in_a_line(arrays, message):
    with pytest.raises(DataError) as caught:
        taken(("x", FLOAT, ["N", 3]), ("xx", FLOAT, ["N", 1]), arrays=arrays)
    assert message in str(caught.value)
    assert "own.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def save(path: Path, nodes: Sequence[Any], inputs: Sequence[Any], weights: Sequence[Any] = ()) -> Path:
    """Write an ONNX graph whose output is called `y`."""
    from onnx import TensorProto, helper

    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", list(inputs), [output], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def embedding(path: Path, rows: int = 2, outside: str = "", sizes: Sequence[Any] = ("batch", "tokens")) -> Path:
    """Write a graph that looks token ids up in a table of `rows`; its weights are in the file `outside`, if given."""
    from onnx import TensorProto, helper, numpy_helper

    table = numpy_helper.from_array(np.ones((rows, 4), np.float32), "table")
    if outside:
        table = TensorProto(name="table", dims=(rows, 4), data_type=TensorProto.FLOAT, data_location="EXTERNAL")
        table.external_data.add(key="location", value=outside)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, list(sizes))
    return save(path, [helper.make_node("Gather", ["table", "ids"], ["y"])], [ids], [table])


def run_once(subject: Subject, batch: int = 1) -> np.ndarray:
    return subject.run(subject.feed(batch))[0]


def test_ids_are_fed_and_run(tmp_path):
    subject = open_subject(embedding(tmp_path / "m.onnx"))
    assert run_once(subject, 3).shape == (3, 128, 4)
    assert subject.samples.assumed == ("tokens = 128", "ids: 0 or 1")


def test_a_run_that_fails_on_made_up_values_is_one_line_with_a_way_out(tmp_path):
    with pytest.raises(ModelError, match="fails on values made up") as caught:
        open_subject(embedding(tmp_path / "m.onnx", rows=1))
    assert "tokens = 128" in caught.value.message
    assert "--input FILE.npz" in caught.value.hint
    assert "\n" not in str(caught.value)
    np.savez(tmp_path / "own.npz", ids=np.zeros((4, 7), np.int64))
    subject = open_subject(tmp_path / "m.onnx", input_file=tmp_path / "own.npz")
    assert run_once(subject, 2).shape == (2, 7, 4)
    np.savez(tmp_path / "own.npz", ids=np.ones((4, 7), np.int64))
    with pytest.raises(DataError, match=r"fails on the samples of .*own\.npz"):
        open_subject(tmp_path / "m.onnx", input_file=tmp_path / "own.npz")


def test_a_batch_that_is_written_into_the_graph_is_found_out(tmp_path):
    """Exporters call the first dimension free and then reshape to one sample."""
    from onnx import TensorProto, helper, numpy_helper

    shape = numpy_helper.from_array(np.array([1, 6]), "shape")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 3])
    path = save(tmp_path / "m.onnx", [helper.make_node("Reshape", ["x", "shape"], ["y"])], [x], [shape])
    found = offline(open_subject(path), 0.1)
    assert list(found.by_batch_size) == ["1"]
    assert found.left_out.startswith("batches of 2 do not run: ")


def test_our_own_models_take_samples_too(tmp_path):
    model = make_model(tmp_path / "model.onnx")
    np.savez(tmp_path / "own.npz", image=np.full((3, 16, 16, 3), 7, np.uint8))
    subject = open_subject(model, input_file=tmp_path / "own.npz")
    assert (subject.feed(2)["image"] == 7).all()
    assert subject.samples.source == str(tmp_path / "own.npz")
    assert len(subject.queries(2, 1)) == 2
    assert len(subject.queries(2, 1)[0]) == 2


@pytest.mark.parametrize("spoil", ["missing", "empty", "text", "cut", "nameless", "pickled", "nothing"])
def test_damaged_sample_files_are_one_line(tmp_path, spoil):
    model, own = make_model(tmp_path / "model.onnx"), tmp_path / "own.npz"
    np.savez(own, image=np.zeros((3, 16, 16, 3), np.uint8))
    whole = own.read_bytes()
    if spoil == "nameless":
        np.save(tmp_path / "own.npy", np.zeros(3))
        own.write_bytes((tmp_path / "own.npy").read_bytes())
    elif spoil == "pickled":
        np.savez(own, image=np.array([{}], object))
    elif spoil == "nothing":
        np.savez(own)
    elif spoil == "missing":
        own.unlink()
    else:
        own.write_bytes({"empty": b"", "text": b"no archive", "cut": whole[:-100]}[spoil])
    with pytest.raises(DataError, match=r"own\.npz") as caught:
        open_subject(model, input_file=own)
    assert "\n" not in str(caught.value)


# ── Weights beside the file ──────────────────────────────────────────────────────────────────────────────────────────


def test_weights_beside_the_file_are_found_and_counted(tmp_path):
    (tmp_path / "data").mkdir()
    np.full((2, 4), 5, np.float32).tofile(tmp_path / "data" / "w.bin")
    path = embedding(tmp_path / "m.onnx", outside="data/w.bin")
    subject = open_subject(path)
    assert (run_once(subject) == 5).all()
    assert subject.bytes == path.stat().st_size + 32


def test_a_download_that_is_links_is_one_folder(tmp_path):
    """Hubs keep files by digest, and link to them under their names."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    np.full((2, 4), 5, np.float32).tofile(blobs / "1f3a")
    embedding(blobs / "9ab0", outside="m.onnx_data")
    (snapshot / "m.onnx").symlink_to(blobs / "9ab0")
    (snapshot / "m.onnx_data").symlink_to(blobs / "1f3a")
    try:
        assert (run_once(open_subject(snapshot / "m.onnx")) == 5).all()
    except ModelError as error:
        assert "cannot be loaded" in str(error)  # versions of onnxruntime differ on links, and decide


@pytest.mark.parametrize("place", ["../w.bin", "/etc/hostname", "sub/../../w.bin", "link.bin"])
def test_weights_may_not_leave_the_folder(tmp_path, place):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "sub").mkdir()
    np.ones((2, 4), np.float32).tofile(tmp_path / "w.bin")
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelError, match="must keep its weights in its own folder"):
        open_subject(embedding(folder / "m.onnx", outside=place))


@pytest.mark.parametrize("place", ["gone.bin", "zero\0byte", "."])
def test_weights_that_are_missing_are_told(tmp_path, place):
    with pytest.raises(ModelError, match="which is missing"):
        open_subject(embedding(tmp_path / "m.onnx", outside=place))


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07"])
def test_what_is_no_model_is_one_line(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(TledgeError, match=r"m\.onnx") as caught:
        open_subject(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
