"""The JSON of a tokenizer that others made: read as data, checked, and brought to the form that stands in a model file.

Source of the form: the `tokenizers` package, whose `Tokenizer.from_str` has the last word.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.errors import BackboneError, MissingExtra

LARGEST_BYTES = 64 << 20
_PROBE = "The quick brown fox jumps over 13 lazy dogs."
_PADS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")


@dataclass(frozen=True, slots=True)
class TokenizerJson:
    """A tokenizer's JSON and its SHA-256 in hex, the id of padding, the largest id, and the most tokens it gives."""

    text: str
    digest: str
    pad_id: int
    largest_id: int
    max_tokens: int | None


def read(path: Path) -> TokenizerJson:
    """Return the tokenizer in the file at `path`, without the padding and cutting that it asks for itself.

    Raises BackboneError for what is no tokenizer, MissingExtra without the package.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BackboneError(f"{path.name} must be at most {LARGEST_BYTES >> 20} MiB.", "Take a smaller vocabulary.")
        content = path.read_bytes()
    except OSError as error:
        raise BackboneError(f"Cannot read {path}: {error.strerror}.", "Check the folder.") from error
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path} is no tokenizer: it holds no JSON.", _HINT) from error
    if not isinstance(plain, dict) or not isinstance(plain.get("model"), dict):
        raise BackboneError(f"{path} is no tokenizer: it has no 'model'.", _HINT)
    return settle(plain, str(path))


_HINT = "Save it with save_pretrained of a fast tokenizer, or Tokenizer.save."


def settle(plain: dict[str, Any], name: str) -> TokenizerJson:
    """Return the tokenizer in the JSON object `plain`, tried on a text; `name` is what to call it."""
    cut, padding = (plain.get(key) if isinstance(plain.get(key), dict) else {} for key in ("truncation", "padding"))
    text = json.dumps(plain | {"truncation": None, "padding": None}, ensure_ascii=False, separators=(",", ":"))
    tokenizer = _parse(text, name)
    ids = tokenizer.encode(_PROBE).ids
    if not ids:
        raise BackboneError(f"{name} makes no tokens of {_PROBE!r}.", _HINT)
    named = (tokenizer.token_to_id(each) for each in (padding.get("pad_token"), *_PADS) if isinstance(each, str))
    pad = next((each for each in named if each is not None), 0)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    most = cut.get("max_length") if type(cut.get("max_length")) is int else None
    return TokenizerJson(text, hashlib.sha256(text.encode()).hexdigest(), pad, largest, most)


def _parse(text: str, name: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("tokenizers", "text") from error
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the package raises no narrower one
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise BackboneError(f"{name} is no tokenizer: {reason}.", _HINT) from error
