"""What cannot be had is refused at once, in one line that says what to do."""

from __future__ import annotations

import pytest

from tledge import heads
from tledge.errors import TledgeError
from tledge.schema import HeadOptions


@pytest.mark.parametrize("kind", heads.HEADS)
def test_what_suits_the_head_passes(kind):
    heads.check(kind, HeadOptions("auto"), multilabel=kind == "multilabel")
    heads.check(kind, HeadOptions(), classes=2)
    heads.check("mlp", HeadOptions("balanced", (8, 4), 0.5, "sgd", 0.01, 10, 128), classes=("a", "b", "c"))
    heads.check("mlp", HeadOptions(hidden=()), classes=10)
    heads.check("binary", HeadOptions(positive="b"), classes=("a", "b"))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("linear", {"hidden": (5,)}, "--hidden says nothing to the head 'linear'. Leave it out, or use --head mlp"),
        ("svm", {"batch_size": 5}, "--batch-size says nothing"),
        ("centroid", {"learning_rate": 0.1}, "--learning-rate says nothing"),
        ("linear", {"positive": "a"}, "use --head binary"),
        ("linear", {"class_weight": "balance"}, "Did you mean balanced?"),
        ("mlp", {"optimizer": "adamw"}, "Did you mean adam?"),
        ("mlp", {"dropout": 1.0}, "between 0 and 1, got 1"),
        ("mlp", {"dropout": 0.5, "hidden": ()}, "there are to be none"),
        ("mlp", {"hidden": (8, 0)}, "one unit at least"),
        ("mlp", {"learning_rate": 0.0}, "above 0, got 0"),
        ("mlp", {"learning_rate": float("nan")}, "above 0, got nan"),
        ("mlp", {"epochs": 0}, "epochs must be 1 at least"),
        ("mlp", {"batch_size": -1}, "batch size must be 1 at least"),
    ],
)
def test_contradictions_are_one_line(kind, options, words):
    with pytest.raises(TledgeError) as error:
        heads.check(kind, HeadOptions(**options))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_data_must_suit_the_head():
    with pytest.raises(TledgeError, match="two classes apart, found 3"):
        heads.check("binary", HeadOptions(), classes=3)
    with pytest.raises(TledgeError, match="no class called 'yes'"):
        heads.check("binary", HeadOptions(positive="yes"), classes=("no", "ja"))
    with pytest.raises(TledgeError, match="Use --head multilabel"):
        heads.check("linear", HeadOptions(), multilabel=True)
    with pytest.raises(TledgeError, match="Use --head linear"):
        heads.check("multilabel", HeadOptions(), multilabel=False)


def test_what_is_not_installed_is_said_early(monkeypatch):
    monkeypatch.setattr("tledge.heads.asked.find_spec", lambda name: None)
    with pytest.raises(TledgeError, match=r"pip install 'tledge\[train\]'"):
        heads.check("svm", HeadOptions())
