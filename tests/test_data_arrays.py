from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from tledge import data
from tledge.errors import DataError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (24, 6, 5), np.uint8)
LABELS = np.arange(24) % 3


def save(root: Path, name: str = "set.npz", **arrays: object) -> Path:
    np.savez_compressed(root / name, **arrays)
    return root / name


def load_pair(root: Path, x: np.ndarray, y: object = LABELS, **more: object):
    return data.load(save(root, x_train=x, y_train=y, x_test=x[:3], y_test=np.asarray(y)[:3], **more))


def value_of(dataset, row: int = 0) -> np.ndarray:
    return dataset.train[row].value


# ── NumPy files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pictures_become_samples_that_carry_them(tmp_path):
    path = save(tmp_path, x_train=PICTURES, y_train=LABELS, x_test=PICTURES[:4] // 2, y_test=LABELS[:4])
    found = data.load(path)
    assert found.classes == ("0", "1", "2") and not found.multilabel and not found.conflicts
    assert (len(found.train), len(found.val), len(found.test)) == (24, 0, 4)
    assert found.train[17].path == f"{path}[x_train][17]" and found.train[17].label == 17 % 3
    assert np.array_equal(found.train[17].value, PICTURES[17]) and not found.train[17].value.flags.writeable
    expected = hashlib.sha256(b"|u1 (6, 5) " + PICTURES[17].tobytes()).hexdigest()
    assert found.train[17].digest == expected


def test_arrays_without_a_split_are_drawn_from_by_content(tmp_path):
    first = data.load(save(tmp_path, "a.npz", x=PICTURES, y=LABELS))
    second = data.load(save(tmp_path, "b.npz", x=PICTURES[::-1], y=LABELS[::-1]))
    assert (len(first.train), len(first.test)) == (18, 6)
    assert {s.digest for s in first.test} == {s.digest for s in second.test}
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize(
    ("x", "y"), [("X_train", "Y_train"), ("train_images", "train_labels"), ("x_train", "y_train"), ("x", "y")]
)
def test_the_usual_names_are_known(tmp_path, x, y):
    assert len(data.load(save(tmp_path, **{x: PICTURES, y: LABELS[:, None], "other": [1]})).classes) == 3


def test_validation_arrays_and_unused_names(tmp_path):
    splits = {f"x_{split}": PICTURES[i::3] for i, split in enumerate(("train", "val", "test"))}
    splits |= {f"y_{split}": LABELS[:8] for split in ("train", "val", "test")}
    found = data.load(save(tmp_path, **splits, classes=["b", "a", "c", "d"]))
    assert (len(found.train), len(found.val), len(found.test)) == (8, 8, 8)
    assert found.classes == ("b", "a", "c")
    assert [problem.reason for problem in found.skipped] == ["class 'd' has no sample to train on"]


def test_numbers_are_classes_in_their_own_order(tmp_path):
    found = load_pair(tmp_path, PICTURES, LABELS * 5 - 1)
    assert found.classes == ("-1", "4", "9")
    assert load_pair(tmp_path, PICTURES, (LABELS * 5.0).astype(np.float32)).classes == ("0", "5", "10")


@pytest.mark.parametrize("shape", [(24, 6, 5, 1), (24, 1, 6, 5)])
def test_one_channel_is_none(tmp_path, shape):
    assert load_pair(tmp_path, PICTURES.reshape(shape)).fingerprint == load_pair(tmp_path, PICTURES).fingerprint


def test_channels_first_are_put_last_and_that_is_said(tmp_path):
    colour = RNG.integers(0, 256, (24, 6, 5, 3), np.uint8)
    last, first = load_pair(tmp_path, colour), load_pair(tmp_path, np.ascontiguousarray(np.moveaxis(colour, -1, 1)))
    assert first.fingerprint == last.fingerprint and value_of(first).flags.c_contiguous
    assert (
        not last.notes
        and [note.split("]: ")[1] for note in first.notes] == ["channels came first and were put last."] * 2
    )


@pytest.mark.parametrize(
    ("convert", "said"),
    [
        (lambda x: x.astype(np.float64), "float64 pixels in 0..255"),
        (lambda x: (x / 255).astype(np.float32), "float32 pixels in 0..1"),
        (lambda x: (x / 255).astype(np.float16), None),
        (lambda x: x.astype(">i4"), ">i4 pixels in 0..255"),
    ],
)
def test_other_pixels_are_converted_once_and_that_is_said(tmp_path, convert, said):
    found = load_pair(tmp_path, convert(PICTURES))
    assert value_of(found).dtype == np.uint8
    assert np.abs(value_of(found).astype(int) - PICTURES[0]).max() <= (0 if said else 1)
    assert len(found.notes) == 2 and (said or "float16") in found.notes[0]


def test_one_range_holds_for_all_arrays_of_a_file(tmp_path):
    dark = np.minimum(PICTURES[:3], 1).astype(np.float32)
    found = data.load(save(tmp_path, x_train=PICTURES / 1.0, y_train=LABELS, x_test=dark, y_test=LABELS[:3]))
    assert found.test[0].value.max() == 1


def test_black_and_white_becomes_0_and_255(tmp_path):
    assert set(np.unique(value_of(load_pair(tmp_path, PICTURES > 100)))) == {0, 255}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8, bool])
def test_vectors_become_float32(tmp_path, dtype):
    vectors = RNG.integers(0, 2, (24, 40)).astype(dtype)
    found = load_pair(tmp_path, vectors)
    assert value_of(found).dtype == np.float32 and np.array_equal(value_of(found, 5), vectors[5])


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.array(["dog", "cat", "äffchen"])[LABELS], ("cat", "dog", "äffchen")),
        (np.char.encode(np.array(["dog", "cat", "é"])[LABELS], "utf-8"), ("cat", "dog", "é")),
        (np.eye(3, dtype=np.float32)[LABELS], ("0", "1", "2")),
        (np.eye(3, dtype=bool)[LABELS], ("0", "1", "2")),
        (LABELS.astype(bool), ("0", "1")),
    ],
)
def test_labels_may_be_names_or_one_hot(tmp_path, y, classes):
    found = load_pair(tmp_path, PICTURES, y)
    assert found.classes == classes and not found.multilabel
    names = y if y.dtype.kind in "US" else [str(n) for n in (y.argmax(1) if y.ndim == 2 else y.astype(int))]
    decoded = [name.decode() if isinstance(name, bytes) else name for name in names]
    assert [found.classes[sample.label] for sample in found.train] == list(decoded)


def test_rows_of_zeros_and_ones_make_a_multilabel_set(tmp_path):
    rows = np.eye(3, dtype=np.uint8)[LABELS]
    rows[4] = [1, 0, 1]
    rows[5] = 0
    found = load_pair(tmp_path, PICTURES, rows, classes=["x", "y", "z"])
    assert found.multilabel and found.classes == ("x", "y", "z")
    assert [found.train[row].labels for row in (3, 4, 5)] == [(0,), (0, 2), ()]
    assert found.train[5].label == -1


# ── NumPy files that are refused ─────────────────────────────────────────────────────────────────────────────────────


def with_nan(row: int, array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float64)
    array[row].flat[2] = np.nan
    return array


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": PICTURES}, "must hold x_train and y_train, or x and y; found a"),
        ({"x": PICTURES}, "holds x, but no y"),
        ({"y_train": LABELS}, "holds y_train, but no x_train"),
        ({"x": PICTURES, "y": LABELS[:5]}, "must label each sample; found 24 in x and 5 in y"),
        ({"x": with_nan(17, PICTURES), "y": LABELS}, r"\[x\] row 17 must hold pixels in 0\.\.1 or 0\.\.255"),
        ({"x": PICTURES - 128.0, "y": LABELS}, r"\[x\] row 0 must hold pixels"),
        ({"x": PICTURES * np.uint16(2), "y": LABELS}, "must hold pixels"),
        ({"x": with_nan(3, np.zeros((24, 8))), "y": LABELS}, r"\[x\] row 3 must be finite in float32"),
        ({"x": np.full((24, 8), 1e300), "y": LABELS}, "row 0 must be finite in float32"),
        ({"x": np.zeros((24, 8), complex), "y": LABELS}, "no samples: complex128"),
        ({"x": np.zeros(24), "y": LABELS}, r"no samples: float64 \[24\]"),
        ({"x": np.zeros((24, 0)), "y": LABELS}, r"no samples: float64 \[24, 0\]"),
        ({"x": np.zeros((24, 4, 4, 4)), "y": LABELS}, r"1 or 3 channels; found \[24, 4, 4, 4\]"),
        ({"x": PICTURES, "y": LABELS, "x_test": np.zeros((2, 9)), "y_test": LABELS[:2]}, "samples of one kind"),
        ({"x": PICTURES, "y": LABELS + 0.5}, r"\[y\] row 0 must be whole; found 0\.5"),
        ({"x": PICTURES, "y": np.full((24, 3), 1 / 3)}, r"\[y\] row 0 must hold zeros and ones"),
        ({"x": PICTURES, "y": LABELS, "classes": ["a", "b"]}, r"\[y\] row 2 must lie in 0 to 1, as there are names"),
        ({"x": PICTURES, "y": np.eye(3)[LABELS], "classes": ["a", "b"]}, "names 2 classes, but its labels have 3"),
        ({"x": PICTURES, "y": LABELS, "classes": ["a", "b", "a"]}, r"\[classes\] row 2 must be new; found a"),
        ({"x": PICTURES, "y": LABELS, "classes": [1, 2, 3]}, r"\[classes\] must be strings"),
        ({"x": PICTURES, "y": np.array(["a", ""] * 12)}, r"\[y\] row 1 must be a name"),
        ({"x": PICTURES, "y": np.zeros((24, 2, 2))}, "no labels"),
        ({"x": PICTURES, "y": np.array([{}] * 24)}, "cannot be read as plain arrays .*allow_pickle"),
        ({"x": PICTURES, "y": np.zeros(24)}, "At least 2 classes are needed; .* holds 1: '0'"),
    ],
)
def test_what_is_wrong_with_arrays_is_said(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        data.load(save(tmp_path, **arrays))


def test_a_damaged_file_is_refused(tmp_path):
    path = save(tmp_path, x=PICTURES, y=LABELS)
    contents = path.read_bytes()
    for damaged in (b"", b"text", pickle.dumps([1]), contents[: len(contents) // 2], contents[:100] + contents[140:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be read as plain arrays"):
            data.load(path)


def test_pictures_and_vectors_do_not_mix(tmp_path):
    pictures = save(tmp_path, "a.npz", x=PICTURES, y=LABELS)
    vectors = save(tmp_path, "b.npz", x=PICTURES.reshape(24, -1), y=LABELS)
    with pytest.raises(DataError, match=r"of one kind; found pictures \(.*\) and vectors of length 30"):
        data.load(pictures, test_data=vectors)
    assert len(data.load(pictures, test_data=pictures).test) == 24
    assert len(data.load_labelled(vectors, ["2", "1", "0"])[0]) == 24


def test_equal_arrays_are_conflicts_like_equal_files(tmp_path):
    x = PICTURES.copy()
    x[1], x[3] = x[0], x[0]
    found = data.load(save(tmp_path, x=x, y=LABELS))
    first = found.conflicts[0]
    assert len(found.conflicts) == 3 and first.path.endswith("set.npz[x][0]") and "labelled '1' at " in first.reason
    assert not {sample.digest for sample in found.test} & {found.train[0].digest}


# ── Idx files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def put_idx(root: Path, stem: str, pictures: np.ndarray, labels: np.ndarray, ending: str = "", dot: str = "-") -> None:
    files = {
        f"{stem}-images{dot}idx3-ubyte": struct.pack(">4B3I", 0, 0, 8, 3, *pictures.shape) + pictures.tobytes(),
        f"{stem}-labels{dot}idx1-ubyte": struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + labels.astype("u1").tobytes(),
    }
    for name, contents in files.items():
        (root / (name + ending)).write_bytes(gzip.compress(contents) if ending else contents)


@pytest.mark.parametrize(("ending", "dot", "test"), [("", "-", "t10k"), (".gz", "-", "t10k"), (".gz", ".", "test")])
def test_idx_files_become_a_dataset(tmp_path, ending, dot, test):
    put_idx(tmp_path, "train", PICTURES, LABELS * 5, ending, dot)
    put_idx(tmp_path, test, PICTURES[:5] // 2, LABELS[:5] * 5, ending, dot)
    (tmp_path / "readme.txt").write_text("beside them")
    found = data.load(tmp_path)
    assert found.classes == ("0", "5", "10")
    assert (len(found.train), len(found.test)) == (24, 5)
    assert np.array_equal(value_of(found, 7), PICTURES[7])
    assert found.train[7].path == f"{tmp_path}/train-images{dot}idx3-ubyte{ending}[7]"


def test_an_idx_file_that_is_packed_without_saying_so_is_read(tmp_path):
    put_idx(tmp_path, "train", PICTURES, LABELS, ".gz")
    for path in tmp_path.iterdir():
        path.rename(path.with_suffix(""))
    assert len(data.load(tmp_path).train) == 18


def test_a_lone_test_pair_is_evaluated_but_not_trained_on(tmp_path):
    put_idx(tmp_path, "t10k", PICTURES, LABELS)
    assert len(data.load_labelled(tmp_path, ["0", "1", "2"])[0]) == 24
    with pytest.raises(DataError, match="holds nothing to train on"):
        data.load(tmp_path)


IMAGES = struct.pack(">4B3I", 0, 0, 8, 3, 24, 6, 5)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "must begin with 00000803, as idx images do; found"),
        (b"\0\0\x08\x01" + bytes(50), "must begin with 00000803, as idx images do; found 00000801"),
        (IMAGES + bytes(719), "must hold 24×6×5 bytes by its header, which cannot be"),
        (IMAGES + bytes(721), "must hold 720 bytes by its header; found more"),
        (gzip.compress(IMAGES + bytes(700), mtime=0), "must hold 720 bytes by its header; found 700"),
        (gzip.compress(IMAGES + PICTURES.tobytes(), mtime=0)[:-30], "cannot be read"),
        (gzip.compress(IMAGES[:4] + b"\xff" * 12, mtime=0), "which cannot be"),
        (gzip.compress(IMAGES[:4] + bytes(12), mtime=0), "must hold 0×0×0 bytes by its header"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 23, 6, 5) + bytes(690), "holds 23 images, but 24 have labels"),
    ],
)
def test_what_is_wrong_with_an_idx_file_is_said(tmp_path, contents, message):
    put_idx(tmp_path, "train", PICTURES, LABELS)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(contents)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path)


def test_a_lonely_idx_file_is_refused(tmp_path):
    put_idx(tmp_path, "train", PICTURES, LABELS)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="holds train-images-idx3-ubyte, but no labels that go with it"):
        data.load(tmp_path)


# ── CIFAR ────────────────────────────────────────────────────────────────────────────────────────────────────────────

PIXELS = RNG.integers(0, 256, (8, 3072), np.uint8)
TEN = [0, 1, 2, 0, 1, 2, 0, 1]


def old_string(text: bytes) -> bytes:
    """Return a string as Python 2 pickled it."""
    return b"T" + struct.pack("<I", len(text)) + text


def old_array(pixels: np.ndarray, code: bytes = b"u1") -> bytes:
    """Return an array as Python 2 and its numpy pickled it."""
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in pixels.shape) + b"t"
    dtype = b"cnumpy\ndtype\n" + old_string(code) + b"K\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R"
    return start + b"(K\1" + shape + dtype + b"\x89" + old_string(pixels.tobytes()) + b"tb"


def old_pickle(**values: object) -> bytes:
    """Return a dictionary of arrays, numbers and strings as Python 2 pickled it."""

    def old(value: object) -> bytes:
        if isinstance(value, np.ndarray):
            return old_array(value)
        if isinstance(value, list):
            return b"](" + b"".join(map(old, value)) + b"e"
        return b"J" + struct.pack("<i", value) if isinstance(value, int) else old_string(value)

    return b"\x80\2}(" + b"".join(old_string(key.encode()) + old(value) for key, value in values.items()) + b"u."


def put_cifar10(root: Path) -> Path:
    for number in (1, 2):
        pixels = np.roll(PIXELS, number, axis=0) if number == 1 else 255 - PIXELS
        (root / f"data_batch_{number}").write_bytes(old_pickle(batch_label=b"b", labels=TEN, data=pixels))
    (root / "test_batch").write_bytes(old_pickle(labels=TEN, data=PIXELS // 2))
    (root / "batches.meta").write_bytes(old_pickle(label_names=[b"plane", b"car", b"bird"], num_vis=3072))
    return root


def test_cifar_pickles_of_python_2_become_a_dataset(tmp_path):
    found = data.load(put_cifar10(tmp_path))
    assert found.classes == ("plane", "car", "bird")
    assert (len(found.train), len(found.test)) == (16, 8)
    picture = np.moveaxis((255 - PIXELS[3]).reshape(3, 32, 32), 0, -1)
    assert np.array_equal(value_of(found, 11), picture) and found.train[11].path == f"{tmp_path}/data_batch_2[3]"
    assert [sample.label for sample in found.test] == TEN


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_pickles_that_python_3_wrote_again_are_read(tmp_path, protocol):
    names = [b"a", b"b", b"c"]
    for name in ("train", "test"):
        batch = {b"data": PIXELS if name == "train" else PIXELS // 2, b"fine_labels": TEN, b"coarse_labels": [0] * 8}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol))
    (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": ["x"]}, protocol))
    found = data.load(tmp_path)
    assert found.classes == ("a", "b", "c") and [sample.label for sample in found.train] == TEN


@pytest.mark.parametrize(
    ("files", "head", "names"),
    [(("data_batch_1.bin", "test_batch.bin"), 1, "batches.meta.txt"), (("train.bin", "test.bin"), 2, None)],
)
def test_cifar_binaries_become_a_dataset(tmp_path, files, head, names):
    for file in files:
        labels = np.zeros((8, head), np.uint8)
        labels[:, -1] = TEN
        pixels = PIXELS if file == files[0] else PIXELS // 2
        (tmp_path / file).write_bytes(np.hstack([labels, pixels]).tobytes())
    if names:
        (tmp_path / names).write_text("plane\ncar\nbird\n\n")
    found = data.load(tmp_path)
    assert found.classes == (("plane", "car", "bird") if names else ("0", "1", "2"))
    assert (len(found.train), len(found.test)) == (8, 8)
    assert np.array_equal(value_of(found), np.moveaxis(PIXELS[0].reshape(3, 32, 32), 0, -1))


class Evil:
    """What a pickle can do to those who trust it."""

    def __reduce__(self):
        return os.mkdir, (Evil.target,)

    target = ""


def evil_pickles(target: Path) -> list[bytes]:
    Evil.target = str(target)
    text = str(target).encode()
    return [
        pickle.dumps({"data": Evil(), "labels": TEN}),
        pickle.dumps({"data": Evil(), "labels": TEN}, 0),
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\ndtype.__class__\n.",
        b"\x80\4\x8c\5numpy\x8c\x0fndarray.__class__\x93.",
        b"cnumpy\ndtype\n(S'O8'\nK\0K\1tR.",
        b"(S'" + text + b"'\nios\nmkdir\n.",
        b"\x80\2\x82\1.",  # an extension
        b"Pid\n.",  # a persistent id
        b"N" + b"r\xff\xff\xff\x7f" + b".",  # a memo of two thousand million entries, of which one is used
        b"\x96" + b"\xff" * 7 + b"\x7f.",  # a byte array of 2^63 bytes
        b"\x8d" + b"\xff" * 7 + b"\x7f.",
        b"(" * 100_000,
        b"\x80\2]" + b"]a" * 10,
        b"",
        b".",
    ]


@pytest.mark.parametrize("number", range(16))
def test_pickles_that_do_more_are_refused_and_do_nothing(tmp_path, number):
    target = tmp_path / "made"
    put_cifar10(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(evil_pickles(target)[number])
    with pytest.raises(DataError, match="data_batch_1"):
        data.load(tmp_path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (old_pickle(data=PIXELS), "must hold `labels`, a list of whole numbers"),
        (old_pickle(data=PIXELS, labels=[b"0"] * 8), "must hold `labels`"),
        (old_pickle(data=PIXELS, labels=TEN[:3]), "holds 8 pictures and 3 labels"),
        (old_pickle(data=PIXELS, labels=[7] * 8), "row 0 must be labelled 0 to 2, as there are names; found 7"),
        (old_pickle(data=PIXELS[:, :9], labels=TEN), "must hold `data`, bytes in rows of 3072"),
        (old_pickle(labels=TEN), "must hold `data`"),
        (old_pickle(data=PIXELS, labels=TEN).replace(old_string(b"u1"), old_string(b"i1")), "must hold `data`"),
        (old_pickle(data=PIXELS, labels=TEN).replace(b"J\0\x0c\0\0", b"J\1\x0c\0\0"), "does not go with its size"),
        (old_pickle(data=PIXELS, labels=TEN)[:-200], "is not a plain CIFAR file"),
    ],
)
def test_what_is_wrong_with_a_cifar_batch_is_said(tmp_path, batch, message):
    (put_cifar10(tmp_path) / "data_batch_1").write_bytes(batch)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path)


def test_a_cut_off_binary_is_refused(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(5000))
    with pytest.raises(DataError, match="must hold rows of 3073 bytes; found 5000 bytes in all"):
        data.load(tmp_path)


def test_classes_called_train_and_test_are_no_cifar(tmp_path):
    for name in ("train", "meta"):
        (tmp_path / name).mkdir()
    (tmp_path / "test").touch()
    with pytest.raises(DataError, match="holds no"):
        data.load(tmp_path)
