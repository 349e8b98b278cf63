"""Texts → tokens, by the tokenizer that stands in the graph's file; the `tokenizers` package does the work."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tledge.errors import DataError, MissingExtra, ModelError
from tledge.modalities.reader import Feed, Part, Reader, Shown, Source, describe, to_base64
from tledge.schema import GoldenSample, TextSpec

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TOKENIZER_KEY = "tledge.tokenizer"
_MULTIPLE = 8
# Of English questions, a fifth of all numbers would be filling with steps of eight, a twentieth is with these.
_STEPS = ((16, 1), (32, 2), (64, 4))
_SHORT = 16
_MOST_TOKENS = 1 << 20
_SHOWN = 40
_MEASURED_TOKENS = 32  # a sentence or two; all models are measured on as many, so that they compare
_BOM, _BOMS_16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_WINDOW = 16  # characters per token that are looked at first: four times what English takes


class TextReader(Reader):
    """Texts → int64 [T], T ≤ `spec.max_tokens`: token ids, special ones among them, without padding.

    Raises ModelError when `metadata` holds no tokenizer, or another one than the spec names. The tokenizer itself is
    made with the first text, so that a box that is only handed rows needs no `tokenizers` package.
    """

    kind, noun, even, revision = "text", "text", False, 2
    example, unit = "--text '…'", "tokens"
    steps, extent = ("tokenize",), "tokens"

    def __init__(self, spec: TextSpec, metadata: Mapping[str, str]) -> None:
        super().__init__(spec, metadata)
        self._json = _checked(metadata.get(TOKENIZER_KEY, ""), spec)

    def load(self, source: Source, part: Part | None = None) -> np.ndarray:
        """Return the tokens of a text, int64 [T]: a str is the text itself, a path or bytes are a file of UTF-8.

        Raises DataError for what is no text or gives no token, MissingExtra without tokenizers, and ModelError for a
        tokenizer that cannot be used.
        """
        text = _text_of(source)
        if not text.strip():
            raise DataError("the text is empty")
        encoding = self._encode(text)
        if all(encoding.special_tokens_mask):
            raise DataError("the text holds nothing that the model's tokenizer takes for a word")
        return np.array(encoding.ids, np.int64)

    def extent_of(self, source: bytes) -> float:
        """Return how many tokens of it the model takes."""
        return float(len(self.load(source)))

    def mismatch(self, value: object) -> str:
        """Return what must hold: all that is a text is a str, a path or bytes."""
        return "A text must be a str, a path or bytes"

    def name(self, source: str | os.PathLike[str] | bytes) -> str:
        """Return what to call `source`: a text by how it begins."""
        if not isinstance(source, str):
            return super().name(source)
        return f"Text {source[:_SHOWN]!a}" + "…" * (len(source) > _SHOWN)

    # ── Rows → the graph ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def blank(self) -> None:
        """None: rows differ in length."""
        return None

    def bucket(self, row: np.ndarray) -> int:
        """Return to how many tokens `row` is filled up: a little more than it has, or the most that there may be."""
        step = next((step for longest, step in _STEPS if len(row) <= longest), _MULTIPLE)
        return min(self.spec.max_tokens, -(-len(row) // step) * step)

    def at_a_time(self, bucket: Hashable, usual: int) -> int:
        """Return twice as many of short texts: products of a hundred rows or more are the fastest for each."""
        return 2 * usual if isinstance(bucket, int) and bucket <= _SHORT else usual

    def together(self, row: np.ndarray) -> int:
        """Return its tokens in steps of eight: what masks leave out costs less than many small batches."""
        return -(-len(row) // _MULTIPLE)

    def feed(self, rows: Sequence[np.ndarray] | np.ndarray, count: int | None = None) -> Feed:
        """Return `input_ids` and `attention_mask`, int64 [count, T] with the T of the largest bucket.

        Rows up to `count` repeat the first: an empty one would divide by its number of tokens, zero, and where a graph
        scales by the range of all that it is fed, numbers of no text must not be in it.
        """
        shape = (max(count or 0, len(rows)), max(map(self.bucket, rows)))
        ids, mask = np.full(shape, self.spec.pad_id, np.int64), np.zeros(shape, np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        ids[len(rows) :], mask[len(rows) :] = ids[:1], mask[:1]
        return {"input_ids": ids, "attention_mask": mask}

    def inputs(self) -> dict[str, tuple[str, list[int | str]]]:
        """Return `input_ids` and `attention_mask`, int64 [T]."""
        return {name: ("tensor(int64)", ["T"]) for name in ("input_ids", "attention_mask")}

    def examples(self, golden: Sequence[GoldenSample]) -> tuple[Feed, tuple[str, ...]]:
        """Return the tokens of the golden samples, over and over until there are 32 of each."""
        length = min(_MEASURED_TOKENS, self.spec.max_tokens)
        tokens = [self.from_golden(sample) for sample in golden]
        ids = np.stack([np.resize(row, length) for row in tokens or [np.array([self.spec.pad_id], np.int64)]])
        said = f"T = {length}", "input_ids: those of the golden samples, repeated", "attention_mask: all 1"
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}, said

    # ── What stands in files ─────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def size(cls, spec: TextSpec) -> str:
        """Return the most tokens."""
        return f"{spec.max_tokens} tokens"

    @classmethod
    def check(cls, spec: TextSpec) -> None:
        """Raise ValueError for another word than text, and for numbers that are none of tokens."""
        if spec.kind != cls.kind or not 0 < spec.max_tokens <= _MOST_TOKENS or not 0 <= spec.pad_id < 2**31:
            raise ValueError("an unknown word, or a number that cannot be")

    @classmethod
    def shown(cls, source: Source, part: Part | None = None) -> Shown:
        """Return the text as it is."""
        return Shown(text=_text_of(source))

    def to_golden(self, row: np.ndarray) -> GoldenSample:
        """Return the tokens as little-endian int32 in base64: what was cut off a text could not be had back."""
        return GoldenSample("", (), tokens=to_base64(row.astype("<i4").tobytes()))

    def from_golden(self, sample: GoldenSample) -> np.ndarray:
        """Return the tokens, int64 [T]."""
        row = np.frombuffer(base64.b64decode(sample.tokens, validate=True), "<i4").astype(np.int64)
        if not 0 < len(row) <= self.spec.max_tokens:
            raise ValueError("of a number of tokens that the model does not take")
        return row

    # ── The tokenizer ────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtra("tokenizers", "text") from error
        try:
            tokenizer = Tokenizer.from_str(self._json)
        except Exception as error:  # the package raises no narrower one
            raise ModelError(
                f"The model's tokenizer cannot be read by the tokenizers package here ({error}).", "Upgrade tokenizers."
            ) from error
        added = tokenizer.num_special_tokens_to_add(False)
        if added >= self.spec.max_tokens:
            raise ModelError(
                f"A text must have room for more than the {added} tokens that the tokenizer itself adds; the model "
                f"takes {self.spec.max_tokens}.",
                "Make the model again with more tokens.",
            )
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.spec.max_tokens)
        return tokenizer

    def _encode(self, text: str) -> Encoding:
        """Tokenize `text`, of a long one the beginning that its first tokens come from.

        Cut at a blank, as no word is read differently for what follows it. Tokenizers that look beyond words change
        their minds near the cut, so twice as many tokens must have come of what is left.
        """
        size = _WINDOW * self.spec.max_tokens
        while size < len(text):
            end = max(text.rfind(blank, size // 2, size) for blank in " \n")
            encoding = self._tokens_of(text[:end]) if end > 0 else None
            if encoding and len(encoding.overflowing) > 1:  # each as long as what is kept, but the last
                return encoding
            size *= 2
        return self._tokens_of(text)

    def _tokens_of(self, text: str) -> Encoding:
        tokenizer = self._tokenizer
        try:
            return tokenizer.encode(text)
        except Exception as error:  # as above: a word that a vocabulary without a token for the unknown lacks
            raise DataError(f"the model's tokenizer refuses the text ({error})") from error


def _checked(tokenizer: str, spec: TextSpec) -> str:
    digest = hashlib.sha256(tokenizer.encode()).hexdigest()
    if digest != spec.tokenizer:
        found = f"the one of digest {digest[:12]}…" if tokenizer else "none"
        raise ModelError(
            f"A model of texts must hold its tokenizer, of digest {spec.tokenizer[:12]}…; found {found}.",
            "Make it again with 'tledge train' or 'tledge export'.",
        )
    return tokenizer


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _text_of(source: Source) -> str:
    if isinstance(source, str):
        return _whole_characters(source)
    if isinstance(source, np.ndarray):
        raise DataError(f"the model takes texts, this is an array {describe(source)}")
    if isinstance(source, os.PathLike):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from error
    if not isinstance(source, bytes):
        raise TypeError(f"A text must be a str, a path or bytes; found {describe(source)}.")
    return decode(source)


def decode(content: bytes) -> str:
    """Return the text in a file of UTF-8, less its byte order mark. Raises DataError, a clause, for anything else."""
    if content.startswith(_BOMS_16):
        raise DataError("a text must be UTF-8, this is UTF-16")
    start = len(_BOM) if content.startswith(_BOM) else 0
    try:
        return content[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        place = start + error.start
        raise DataError(f"a text must be UTF-8, found byte 0x{content[place]:02x} at offset {place}") from error


def _whole_characters(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"a text must hold whole characters, found half of one at offset {error.start}") from error
    return text
