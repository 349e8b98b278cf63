"""The reader of torch files: it reads what torch writes, and runs nothing that a file asks for."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from tledge.backbones.torch_pickle import MAGIC_NUMBER, PROTOCOL_VERSION, read_state
from tledge.errors import BackboneError

FLOATS = np.arange(12, dtype=np.float32)
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED_DICT = b"ccollections\nOrderedDict\n"
STORAGE_TYPES = {"f": b"ctorch\nFloatStorage\n", "q": b"ctorch\nLongStorage\n", "l": b"ctorch\nLongStorage\n"}


def plain(value: object) -> bytes:
    """The opcodes of a plain value, without the frame of a pickle."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    array: np.ndarray, key: str, shape: tuple, strides: tuple, offset: object = 0, elements: object = None
) -> bytes:
    size = plain(array.size if elements is None else elements)
    storage = b"(" + plain("storage") + STORAGE_TYPES[array.dtype.char] + plain(key) + plain("cpu") + size + b"NtQ"
    return TENSOR + b"(" + storage + plain(offset) + plain(shape) + plain(strides) + b"\x89" + ORDERED_DICT + b")RtR"


def state(**tensors: bytes) -> bytes:
    items = b"".join(plain(name) + code for name, code in tensors.items())
    return b"\x80\x02" + ORDERED_DICT + b")R(" + items + b"u."


def file(state_pickle: bytes, *arrays: tuple[str, np.ndarray], little_endian: bool = True) -> bytes:
    head = (MAGIC_NUMBER, PROTOCOL_VERSION, {"little_endian": little_endian})
    pickles = b"".join(pickle.dumps(value, 2) for value in head)
    keys = pickle.dumps([key for key, _ in arrays], 2)
    elements = b"".join(struct.pack("<q", array.size) + array.tobytes() for _, array in arrays)
    return pickles + state_pickle + keys + elements


def test_tensors_come_back_with_their_shapes_strides_and_shared_storages():
    whole = tensor(FLOATS, "a", (3, 4), (4, 1))
    turned = tensor(FLOATS, "a", (4, 3), (1, 4))
    tail = tensor(FLOATS, "a", (2,), (1,), offset=10)
    count = tensor(np.array([7]), "b", (), ())
    code = state(whole=whole, turned=turned, tail=tail, count=count)
    read = read_state(file(code, ("b", np.array([7])), ("a", FLOATS)), "weights.pth")
    assert np.array_equal(read["whole"], FLOATS.reshape(3, 4))
    assert np.array_equal(read["turned"], FLOATS.reshape(3, 4).T)
    assert read["turned"].flags.c_contiguous
    assert np.array_equal(read["tail"], [10, 11])
    assert read["count"] == 7 and read["count"].shape == () and read["count"].dtype == np.int64


class Calling:
    """Pickles into a call of `function`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def attacks(marker: Path) -> dict[str, bytes]:
    touch = f"touch {marker}"
    nested = Calling(getattr, Calling(__import__, "os"), "system")
    return {
        "os.system by REDUCE": pickle.dumps(Calling(os.system, touch), 2),
        "os.system by STACK_GLOBAL": pickle.dumps(Calling(os.system, touch), 4),
        "os.system by INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "os.system by OBJ": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",
        "builtins.eval": pickle.dumps(Calling(eval, f"open({str(marker)!r}, 'w')"), 2),
        "builtins.exec": pickle.dumps(Calling(exec, f"open({str(marker)!r}, 'w')"), 4),
        "getattr of an imported module": pickle.dumps(Calling(map, nested, [touch]), 2),
        "a dotted path through an admitted name": b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93.",
        "a dotted path through an admitted module": b"\x80\x04\x8c\x0bcollections\x8c\x10_sys.modules.get\x93.",
        "another name of an admitted module": b"\x80\x02ctorch\nload\n.",
        "a call of a storage type": b"\x80\x02ctorch\nFloatStorage\n)R.",
        "attributes for the admitted function": b"\x80\x02" + TENSOR + b"}" + plain("__call__") + plain(1) + b"sb.",
        "slots for the admitted function": b"\x80\x02" + TENSOR + b"N}" + plain("__doc__") + plain("x") + b"s\x86b.",
        "slots for an admitted class": b"\x80\x02" + ORDERED_DICT + b"N}" + plain("get") + plain(1) + b"s\x86b.",
    }


@pytest.mark.parametrize("attack", attacks(Path("marker")))
@pytest.mark.parametrize("position", ["state", "magic number", "keys"])
def test_a_file_that_asks_for_code_is_refused_and_runs_none(tmp_path, attack, position):
    marker = tmp_path / "marker"
    payload = attacks(marker)[attack]
    whole = state(whole=tensor(FLOATS, "a", (12,), (1,)))
    data = {
        "state": file(payload),
        "magic number": payload + file(whole),
        "keys": file(whole).removesuffix(pickle.dumps([], 2)) + payload,
    }[position]
    with pytest.raises(BackboneError, match="not a plain torch weights file"):
        read_state(data, "weights.pth")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("case", "code"),
    {
        "beyond the end": tensor(FLOATS, "a", (13,), (1,)),
        "offset beyond the end": tensor(FLOATS, "a", (1,), (1,), offset=12),
        "stride beyond the end": tensor(FLOATS, "a", (2, 6), (7, 1)),
        "before the start": tensor(FLOATS, "a", (2,), (1,), offset=-4),
        "negative stride": tensor(FLOATS, "a", (2,), (-1,), offset=4),
        "one element repeated without end": tensor(FLOATS, "a", (1 << 40,), (0,)),
        "strides for another shape": tensor(FLOATS, "a", (3, 4), (1,)),
        "offset that is no number": tensor(FLOATS, "a", (1,), (1,), offset="0"),
        "more elements than stored": tensor(FLOATS, "a", (13,), (1,), elements=13),
        "a negative number of elements": tensor(FLOATS, "a", (1,), (1,), elements=-1),
        "a storage that is not there": tensor(FLOATS, "b", (12,), (1,)),
        "no tensor at all": plain([1, 2, 3]),
        "a storage without a tensor": TENSOR + b"(" + plain("x") + plain(0) + plain((1,)) + plain((1,)) + b"tR",
    }.items(),
)
def test_a_tensor_that_does_not_lie_in_its_storage_is_refused(case, code):
    with pytest.raises(BackboneError, match=r"weights\.pth is not a plain torch weights file"):
        read_state(file(state(broken=code), ("a", FLOATS)), "weights.pth")


def test_every_way_to_cut_the_file_short_is_noticed():
    data = file(state(whole=tensor(FLOATS, "a", (12,), (1,))), ("a", FLOATS))
    assert set(read_state(data, "whole")) == {"whole"}
    for length in range(len(data)):
        with pytest.raises(BackboneError):
            read_state(data[:length], "cut")


def test_other_layouts_are_refused():
    whole = state(whole=tensor(FLOATS, "a", (12,), (1,)))
    for data in (b"PK\x03\x04 a zip archive", file(whole, ("a", FLOATS), little_endian=False), pickle.dumps({})):
        with pytest.raises(BackboneError):
            read_state(data, "weights.pth")
