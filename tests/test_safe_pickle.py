from __future__ import annotations

import io
import pickle
from collections import OrderedDict

import pytest

from tledge import safe_pickle


class Filled(safe_pickle.Stateful):
    __slots__ = ("state",)

    def __setstate__(self, state):
        self.state = state


class Plain:
    """Stands for anything that a table admits and that has state of its own."""

    value = 1


KEPT = Plain()
NAMES = {("m", "fill"): Filled, ("m", "kept"): KEPT, ("m", "OrderedDict"): OrderedDict}


def load(pickled: bytes, **options):
    return safe_pickle.load(io.BytesIO(pickled), NAMES, **options)


def test_plain_values_are_what_they_were():
    values = {"a": [1, 2.5, None, True], b"b": ("c", {"d": b"\0" * 300}), "long": 1 << 80}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        if protocol >= 3:  # before, bytes were written as a call
            assert load(pickle.dumps(values, protocol)) == values
        assert load(pickle.dumps(values["a"], protocol)) == values["a"]


def test_several_objects_follow_one_another_in_a_stream():
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps([2]) + b"rest")
    assert [safe_pickle.load(stream, {}) for _ in range(2)] == [1, [2]] and stream.read() == b"rest"


def test_only_stand_ins_take_state():
    assert load(b"cm\nfill\n(tR(S'a'\nI7\ntb.").state == ("a", 7)
    assert load(b"cm\nkept\n(dS'value'\nI7\nsb.") is KEPT
    assert KEPT.value == 1 and not KEPT.__dict__
    assert load(b"cm\nOrderedDict\n(tR(dS'extra'\nI7\nsb.") == {}


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"cos\nsystem\n.", "it names os.system, which no such file needs"),
        (b"cm\nfill.__init__\n.", "it names m.fill.__init__"),
        (b"\x80\4\x8c\1m\x8c\x0ekept.__class__\x93.", "it names m.kept.__class__"),
        (b"(S'x'\nios\nsystem\n.", "it names os.system"),
        (b"\x82\1.", "it refers to extension 1"),
        (b"Pid\n.", "it refers to something outside of itself"),
    ],
)
def test_what_is_in_no_table_is_refused(pickled, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        load(pickled)


def test_persistent_ids_are_opened_by_whom_the_caller_names():
    assert load(b"Pid\n.", open_persistent=lambda pid: [pid]) == ["id"]


def test_an_index_into_the_memo_takes_no_memory():
    assert load(b"I1\nr\xff\xff\xff\x7f.") == 1
