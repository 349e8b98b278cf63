"""A folder in which others exported an encoder of texts: `model.onnx` or `onnx/model.onnx`, and `tokenizer.json`.

BERT, DistilBERT, RoBERTa and their like: `input_ids`, `attention_mask` and maybe `token_type_ids` in, hidden states
[N, T, H] or features [N, H] out. Of the files nothing is trusted: the network passes the checks of from_onnx/intake.py,
the others are data, and what was made is kept only when it agrees with the network as it came.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tledge.backbones import encoder_network, text_graph, tokenizer_json
from tledge.backbones.conversion import Converted, key
from tledge.backbones.from_onnx import intake
from tledge.backbones.kept_backbones import find_or_convert
from tledge.errors import BackboneError
from tledge.schema import Backbone, BackboneOptions

_REVISION = 1
_NETWORKS = ("model.onnx", "onnx/model.onnx")
_TOKENIZER = "tokenizer.json"
_MOST_TOKENS = 512
_LARGEST_HINT_BYTES = 1 << 20
# Files of sentence-transformers and transformers that say how many tokens a network takes; the first that does counts.
_LENGTHS = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
_POOLING = ("1_Pooling/config.json", {"pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"})


def accepts(path: Path) -> bool:
    """Tell whether `path` is a folder with an ONNX network or a tokenizer."""
    return path.is_dir() and any((path / name).is_file() for name in (*_NETWORKS, _TOKENIZER))


def load(
    path: Path,
    cache_dir: Path,
    options: BackboneOptions | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Backbone:
    """Return the encoder in the folder `path` as a backbone, made once and then kept in `cache_dir`/backbones.

    `options.pool` is avg, cls or max, `options.feature` names the output or tensor to take, `options.input_size` is the
    most tokens. What they leave open comes from the folder's own files; what those do too is told in
    `Backbone.assumed`. Raises BackboneError for a file that is missing or refused, MissingExtra, OutputError.
    """
    options, name = options or BackboneOptions(), re.sub(r"[^\w.+]+", "_", path.resolve().name, flags=re.ASCII)
    text_graph.check_options(path.name, options)
    data, tokenizer = intake.read_bytes(_network(path)), tokenizer_json.read(_present(path / _TOKENIZER))
    most = options.input_size or _most_tokens(path, tokenizer)
    pool = options.pool or _pooling(path)

    def convert() -> Converted:
        text_graph.require_onnx()
        (on_stage or (lambda _: None))(f"making {path.name} a backbone, once on this machine")
        made = encoder_network.convert(data, path.name, tokenizer, options.feature, pool, most)
        length = [] if options.input_size == made.spec.max_tokens else [f"at most {made.spec.max_tokens} tokens"]
        facts = {"preprocess": asdict(made.spec), "dimension": made.dimension, "assumed": [*length, *made.assumed]}
        return Converted(made.data, facts)

    identity = hashlib.sha256(data).hexdigest(), tokenizer.digest, options.feature, pool, most, options.input_size
    kept = find_or_convert(cache_dir, f"{name}-{key('encoder', _REVISION, *identity)}", convert)
    assumed = tuple(kept.facts["assumed"])
    return Backbone(name, kept.path, kept.preprocess, kept.dimension, kept.digest, assumed=assumed)


def _network(folder: Path) -> Path:
    found = next((folder / name for name in _NETWORKS if (folder / name).is_file()), None)
    if found is None:
        raise BackboneError(f"{folder} must hold {' or '.join(_NETWORKS)}, but has neither.", _EXPORT)
    return found


def _present(path: Path) -> Path:
    if not path.is_file():
        raise BackboneError(f"{path.parent} must hold {path.name} beside its network, but has none.", _EXPORT)
    return path


_EXPORT = "Export it with: optimum-cli export onnx --task feature-extraction."


def _most_tokens(folder: Path, tokenizer: tokenizer_json.TokenizerJson) -> int:
    """Return how many tokens the network is to take; whether it can shows when it is run."""
    first, last = (_hint(folder / file).get(name) for file, name in _LENGTHS)
    lengths = (each for each in (first, tokenizer.max_tokens, last) if type(each) is int and each >= 8)
    return min(next(lengths, _MOST_TOKENS), _MOST_TOKENS)


def _pooling(folder: Path) -> str | None:
    file, words = _POOLING
    said = _hint(folder / file)
    return next((word for name, word in words.items() if said.get(name) is True), None)


def _hint(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file at `path`; nothing where there is none: it is no more than a hint."""
    try:
        if path.stat().st_size > _LARGEST_HINT_BYTES:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
