"""Texts → tokens: what is read, what is refused, how long texts are cut, and what a graph is fed."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from tledge.errors import DataError, ModelError
from tledge.modalities.text import TOKENIZER_KEY, TextReader
from tledge.schema import GoldenSample, TextSpec

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers (extra text) is not installed")
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors  # noqa: E402, TID253

_PAD, _UNK, _CLS, _SEP = range(4)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WORDS = ("what", "is", "a", "cat", "##s", "dog", "?", "naive", "a", "##b", "犬")


def _wordpiece() -> Tokenizer:
    words = list(dict.fromkeys((*_SPECIAL, *_WORDS)))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", _CLS), ("[SEP]", _SEP)]
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def _bytes_bpe() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "a"), ("aa", "aa"), ("Ġ", "a"), ("c", "a"), ("ca", "t")]
    vocabulary = {token: i for i, token in enumerate([*letters, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _unigram_across_words() -> Tokenizer:
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("aa", -3.5), ("▁cat", -4.0), ("s▁", -3.0), ("c", -5.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return tokenizer


def _reader(tokenizer: Tokenizer | None = None, max_tokens: int = 32) -> TextReader:
    text = (tokenizer or _wordpiece()).to_str()
    spec = TextSpec(max_tokens, hashlib.sha256(text.encode()).hexdigest())
    return TextReader(spec, {TOKENIZER_KEY: text})


# ── What is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_its_bytes_and_its_file_are_the_same_tokens(tmp_path):
    reader, text = _reader(), "What is a NAÏVE cat? 犬"
    file = tmp_path / "question"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    rows = [reader.load(source) for source in (text, text.encode(), file)]
    assert rows[0].dtype == np.int64
    assert rows[0].tolist() == [_CLS, 4, 5, 6, 11, 7, 10, 13, _SEP]
    assert all(row.tolist() == rows[0].tolist() for row in rows)


def test_a_str_is_a_text_even_where_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat").write_text("dog")
    assert _reader().load("cat").tolist() == [_CLS, 7, _SEP]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", "empty"),
        (" \n\t\u3000", "empty"),
        (b"", "empty"),
        ("\0\x01\x02", "nothing that the model's tokenizer takes for a word"),
        (b"cat \xff dog", "found byte 0xff at offset 4"),
        (b"\xef\xbb\xbfcat \xe9", "found byte 0xe9 at offset 7"),
        ("cat".encode("utf-16"), "UTF-16"),
        (b"\x89PNG\r\n\x1a\n", "found byte 0x89 at offset 0"),
        ("cat \ud83d", "found half of one at offset 4"),
        (np.zeros(3, np.float32), "an array float32 [3]"),
    ],
)
def test_what_is_no_text_is_refused_in_a_few_words(source, found):
    with pytest.raises(DataError) as refused:
        _reader().load(source)
    assert found in refused.value.message
    assert refused.value.message[0].islower()


def test_a_file_that_is_not_there_and_what_is_no_source_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        _reader().load(tmp_path / "none.txt")
    with pytest.raises(TypeError, match="int"):
        _reader().load(7)


def test_control_characters_within_a_text_are_passed_over():
    reader = _reader()
    assert reader.load("c\0at\x07").tolist() == reader.load("cat").tolist()


def test_a_word_that_the_vocabulary_has_no_token_for_is_refused_not_a_crash():
    tokenizer = Tokenizer(models.WordLevel({"cat": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(DataError, match="refuses the text"):
        _reader(tokenizer).load("cat dog")


# ── Long texts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _first_tokens_of_all(tokenizer: Tokenizer, text: str, most: int) -> list[int]:
    tokenizer.enable_truncation(most)
    return tokenizer.encode(text).ids


@pytest.mark.parametrize("make", [_wordpiece, _bytes_bpe, _unigram_across_words])
@pytest.mark.parametrize("most", [4, 13, 64])
def test_a_long_text_is_cut_where_it_changes_no_token_that_is_kept(make, most):
    random = np.random.default_rng(most)
    parts = ["cat", "cats", "a", " ", "  ", "\n", "犬", "?", "e\u0301", "ab" * 60, "a" * 333, "\0", "\u00a0", "dogs "]
    reader = _reader(make(), most)
    for length in (3, 40, 400, 4000):
        text = "".join(random.choice(parts, length)) + "cat"
        assert reader.load(text).tolist() == _first_tokens_of_all(make(), text, most), (length, text[:80])


def test_ten_megabytes_are_read_no_further_than_they_count():
    reader = _reader(max_tokens=128)
    head = "what is a cat? " * 100
    assert reader.load(head + "dogs " * 2_000_000).tolist() == reader.load(head).tolist()
    assert len(reader.load(head)) == 128


def test_a_word_of_a_megabyte_and_a_megabyte_of_blanks_hide_nothing_behind_them():
    assert _reader(max_tokens=16).load("x" * 1_000_000 + " cat").tolist() == [_CLS, _UNK, 7, _SEP]
    assert _reader(max_tokens=16).load("\n" * 1_000_000 + "cat").tolist() == [_CLS, 7, _SEP]


# ── What a graph is fed ──────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_filled_up_to_little_more_than_they_have():
    reader = _reader(max_tokens=90)
    lengths = {1: 1, 15: 15, 16: 16, 17: 18, 32: 32, 33: 36, 64: 64, 65: 72, 89: 90, 90: 90}
    assert {length: reader.bucket(np.zeros(length)) for length in lengths} == lengths
    assert [reader.together(np.zeros(length)) for length in (1, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]


def test_rows_that_run_together_are_filled_up_and_masked():
    reader = _reader(max_tokens=28)
    short, longer = reader.load("cat"), reader.load("what is a cat? what is a dog?")
    given = reader.feed([short, longer])
    assert {name: (array.dtype, array.shape) for name, array in given.items()} == dict.fromkeys(
        reader.inputs(), (np.dtype(np.int64), (2, len(longer)))
    )
    assert given["attention_mask"].sum(axis=1).tolist() == [len(short), len(longer)]
    assert given["input_ids"][0, : len(short)].tolist() == short.tolist()
    assert not given["input_ids"][0, len(short) :].any()


def test_places_that_no_text_fills_hold_one_that_is_there():
    reader = _reader()
    given = reader.feed([reader.load("cat"), reader.load("dog?")], 8)
    assert given["input_ids"].shape == (8, 4)
    assert (given["input_ids"][2:] == given["input_ids"][0]).all()
    assert given["attention_mask"].any(axis=1).all()


def test_padding_has_the_number_that_the_spec_says():
    text = _wordpiece().to_str()
    spec = TextSpec(32, hashlib.sha256(text.encode()).hexdigest(), pad_id=1)
    reader = TextReader(spec, {TOKENIZER_KEY: text})
    rows = [reader.load("cat"), np.full(8, 7)]
    assert reader.feed(rows)["input_ids"][0].tolist() == [_CLS, 7, _SEP, 1, 1, 1, 1, 1]


def test_padding_and_cutting_that_the_tokenizer_brings_along_do_not_count():
    tokenizer = _wordpiece()
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(4)
    assert _reader(tokenizer).load("what is a cat?").tolist() == [_CLS, 4, 5, 6, 7, 10, _SEP]


# ── Golden samples ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_golden_sample_holds_the_tokens():
    reader = _reader()
    row = reader.load("what is a cat?")
    back = reader.from_golden(reader.to_golden(row))
    assert (back.dtype, back.tolist()) == (np.int64, row.tolist())


@pytest.mark.parametrize("tokens", ["", "no base64", "AAA=", 4 * 33 * "A"])
def test_golden_tokens_that_are_none_are_refused(tokens):
    with pytest.raises(ValueError):
        _reader().from_golden(GoldenSample("", (1.0,), tokens=tokens))


# ── The tokenizer ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("metadata", [{}, {TOKENIZER_KEY: "{}"}])
def test_no_tokenizer_or_another_one_is_a_model_error(metadata):
    with pytest.raises(ModelError, match="must hold its tokenizer"):
        TextReader(TextSpec(32, "0" * 64), metadata)


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"model": {"type": "FromTheFuture"}}'])
def test_a_tokenizer_that_cannot_be_read_is_a_model_error(content):
    reader = TextReader(TextSpec(32, hashlib.sha256(content.encode()).hexdigest()), {TOKENIZER_KEY: content})
    with pytest.raises(ModelError, match="cannot be read by the tokenizers package"):
        reader.load("cat")


def test_a_model_without_room_for_a_word_is_a_model_error():
    with pytest.raises(ModelError, match="room for more than the 2 tokens"):
        _reader(max_tokens=2).load("cat")


def test_without_tokenizers_rows_are_fed_and_texts_name_the_extra(tmp_path):
    program = """if True:
        import sys
        sys.modules["tokenizers"] = None  # as if it were not installed
        import hashlib, numpy
        from tledge.errors import MissingExtra
        from tledge.modalities.text import TOKENIZER_KEY, TextReader
        from tledge.schema import TextSpec
        reader = TextReader(TextSpec(8, hashlib.sha256(b"{}").hexdigest()), {TOKENIZER_KEY: "{}"})
        assert reader.feed([numpy.array([1, 2])])["input_ids"].shape == (1, 2)
        try:
            reader.load("cat")
        except MissingExtra as error:
            print(error)
    """
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "tokenizers is not installed" in said and "tledge[text]" in said
