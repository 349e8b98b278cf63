"""The whole sentence on a handful of texts: train, export, evaluate, predict, verify, bench, compare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tledge
from tledge.errors import TledgeError
from tledge.runtime import Predictor

WORDS = {
    "food": ("bread", "soup", "cheese", "apple", "dinner", "eat", "cook"),
    "money": ("bank", "price", "cash", "pay", "tax", "cost", "loan"),
    "sport": ("ball", "goal", "team", "run", "match", "win", "race"),
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of twelve texts of five words for each class."""
    rng = np.random.default_rng(0)
    lines = [f"{' '.join(rng.choice(words, 5))},{name}" for name, words in WORDS.items() for _ in range(12)]
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def vectors(texts: Path) -> Path:
    """Word vectors as GloVe has them: words of one class lie near one another."""
    rng = np.random.default_rng(1)
    rows = [
        f"{word} {' '.join(f'{number:.4f}' for number in np.eye(8)[kind] + rng.normal(0, 0.2, 8))}"
        for kind, words in enumerate(WORDS.values())
        for word in words
    ]
    path = texts.parent / "words.txt"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory, texts: Path, cache: Path) -> Path:
    """The run folder of the default backbone for texts. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "read"
    tledge.train(texts, folder)
    return folder


@pytest.fixture(scope="module")
def read_int8(tmp_path_factory: pytest.TempPathFactory, read: Path) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    tledge.export(read, path, min_agreement=0.8, max_drop=20)
    return path


def test_training_on_texts_leaves_a_complete_run(read):
    document = json.loads((read / "run.json").read_text())
    assert (document["backbone"], document["kind"]) == ("minilm_l6", "text")
    assert document["classes"] == list(WORDS)
    assert document["metrics"]["accuracy"] > 0.6
    assert "held-out texts" in (read / "report.html").read_text()


def test_the_int8_file_of_texts_does_what_its_export_measured(read, read_int8, texts):
    predictor = Predictor(read_int8)
    assert {each.name for each in predictor.session.get_inputs()} == {"input_ids", "attention_mask"}
    assert predictor.manifest.precision == "int8"
    assert read_int8.stat().st_size < 0.35 * (read / "model.onnx").stat().st_size
    assert tledge.evaluate(read_int8, texts).metrics.accuracy > 0.9


def test_both_files_of_texts_pass_their_own_golden_samples(read, read_int8):
    for model in (read / "model.onnx", read_int8):
        result = tledge.verify(model)
        assert result.passed and (result.golden.samples, result.golden.flips) == (4, 0)


def test_texts_are_predicted(read_int8):
    found = tledge.predict(read_int8, texts=["eat some bread", "the team will win"])
    assert [each.label for each in found.predictions] == ["food", "sport"]


def test_texts_are_measured_at_one_length_on_golden_tokens(read, read_int8):
    result = tledge.bench(
        read_int8,
        seconds=0.3,
        threads=1,
        scenarios=["single_stream", "multi_stream", "offline"],
        against=read / "model.onnx",
    )
    assert result.assumed == ("T = 32", "input_ids: those of the golden samples, repeated", "attention_mask: all 1")
    assert result.scenarios["offline"].samples_per_second > 0 and result.verdict.pairs > 0


def test_what_is_fed_is_tokens_of_the_golden_texts(read_int8):
    subject = tledge.measurement.open_subject(read_int8, provider="cpu", threads=1)
    feed = subject.feed(3)
    golden = [subject.predictor.reader.from_golden(each) for each in subject.predictor.manifest.golden]
    assert feed["input_ids"].shape == (3, 32) and (feed["attention_mask"] == 1).all()
    for row, tokens in zip(feed["input_ids"], golden, strict=False):
        assert np.array_equal(row[: len(tokens)], tokens) and set(row) <= set(tokens)


def test_tokens_of_ones_own_come_first(read_int8, tmp_path):
    np.savez(tmp_path / "own.npz", input_ids=np.full((2, 11), 2054))
    subject = tledge.measurement.open_subject(read_int8, provider="cpu", threads=1, input_file=tmp_path / "own.npz")
    feed = subject.feed(1)
    assert (feed["input_ids"] == 2054).all() and feed["attention_mask"].shape == (1, 11)
    assert subject.samples.assumed == ("attention_mask: all 1",)


def test_a_sweep_takes_texts(read_int8):
    found = tledge.bench(read_int8, seconds=0.4, sweep="threads=1,batch=1:2").sweep
    assert {row.batch for row in found.rows} == {1, 2} and not any(row.failed for row in found.rows)


def test_backbones_of_texts_are_compared(texts, vectors, tmp_path, cache):
    found = tledge.compare(texts, tmp_path / "both", backbones=["minilm_l6", str(vectors)])
    first, second = found.backbones
    assert (first.p50_ms < second.p50_ms, first.pareto) == (True, True)
    assert min(first.accuracy, second.accuracy) > 0.6
    assert {Path(each.run).name for each in found.backbones} == {"minilm_l6", "words"}


def test_texts_are_measured_from_file_to_label(read_int8, tmp_path):
    for name, text in (("one.txt", "bread and cheese"), ("two.txt", "a loan from the bank"), ("notes.md", "no text")):
        (tmp_path / name).write_text(text)
    (found,) = tledge.bench(read_int8, seconds=0.05, scenarios=["single_stream"], samples=tmp_path).end_to_end
    assert (found.files, found.extent, found.mean_extent) == (2, "tokens", 6)  # two of them stand around each text
    assert found.decode is None and found.resize is None
    assert found.tokenize.mean_ms + found.run.mean_ms + found.label.mean_ms == pytest.approx(found.whole.mean_ms)
    made = tledge.bench(read_int8, seconds=0.05, scenarios=["single_stream"], end_to_end=True).end_to_end
    assert [(each.samples, each.files) for each in made] == [("a sentence", 6), ("a paragraph", 1)]


def test_half_precision_keeps_the_tokenizer_and_takes_half_the_space(read, tmp_path):
    exported = tledge.export(read, tmp_path / "half.onnx", precision="fp16")
    assert tledge.verify(exported.model).passed
    full = read / "model.onnx"
    assert Path(exported.model).stat().st_size < 0.52 * full.stat().st_size
    given = ["bread and cheese", "a loan from the bank"]
    expected, found = (Predictor(path).probabilities(given) for path in (full, exported.model))
    np.testing.assert_allclose(found, expected, atol=0.01)
    with pytest.raises(TledgeError, match="pictures or vectors"):
        tledge.export(read, tmp_path / "model.keras", precision="keras")
