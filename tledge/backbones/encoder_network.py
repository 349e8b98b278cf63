"""The network of an encoder that others exported → a backbone's graph: checked, cut, fed with two inputs, pooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tledge import engine
from tledge.backbones import text_graph
from tledge.backbones.from_onnx import intake
from tledge.backbones.from_onnx.cut import find_cut
from tledge.backbones.from_onnx.fold_constants import fold_constants
from tledge.backbones.from_onnx.graph import keep_what_leads_to, lift_constants, rename
from tledge.backbones.from_onnx.opset import settle_opset
from tledge.backbones.from_onnx.rebuild import finish
from tledge.backbones.from_onnx.widen import widen
from tledge.backbones.tokenizer_json import TokenizerJson
from tledge.errors import BackboneError, ModelError
from tledge.graph_writer import GraphWriter, ends
from tledge.modalities.text import TOKENIZER_KEY
from tledge.schema import TextSpec

_TYPES = "token_type_ids"
_KNOWN = (*text_graph.INPUTS, _TYPES)
_OUTPUTS = ("last_hidden_state", "token_embeddings", "hidden_states", "sentence_embedding", "pooler_output")
_PREFIX = "net/"
_TOLERANCE = 1e-3
_SHORTEST = 8
_DYNAMIC = "Export it with a first and second axis of any length (dynamic_axes or dynamic_shapes)."


@dataclass(frozen=True, slots=True)
class Encoder:
    """A backbone's file, what it takes, how many features it gives, and what nobody asked for."""

    data: bytes
    spec: TextSpec
    dimension: int
    assumed: tuple[str, ...]


def convert(
    data: bytes, name: str, tokenizer: TokenizerJson, feature: str | None, pool: str | None, most: int
) -> Encoder:
    """Return the backbone made from the ONNX file `data` of a folder called `name`, run beside the network as it came.

    `feature` names the tensor to take, `pool` how it is pooled, None for their mean; `most` is the most tokens, fewer
    where the network takes fewer. Raises BackboneError for what is refused.
    """
    network = intake.parse(data, name)
    lift_constants(network.graph)
    tensor = _output(network.graph, feature, name)
    keep_what_leads_to(network, tensor)
    _check_inputs(network.graph, name)
    intake.refuse_subgraphs(network, name)
    intake.refuse_large_tensors(network, name)
    original = _Run(network.SerializeToString(), name, [value.name for value in network.graph.input])
    most = _longest(original, most, tokenizer, name)
    expected, rank = _expected(original, tokenizer, pool or "avg", min(most, 2 * _SHORTEST), name)
    model = _rebuilt(network, tensor, rank, pool or "avg", expected.shape[1], tokenizer, name)
    made = model.SerializeToString(deterministic=True)
    _check_agreement(_Run(made, name, text_graph.INPUTS), expected, tokenizer, min(most, 2 * _SHORTEST), name)
    return Encoder(
        made, TextSpec(most, tokenizer.digest, tokenizer.pad_id), expected.shape[1], _told(tensor, rank, pool)
    )


def _output(graph: Any, feature: str | None, name: str) -> str:
    if feature is not None:
        return find_cut(_Holder(graph), feature, None, name).tensor
    outputs = [value.name for value in graph.output]
    found = next((each for each in _OUTPUTS if each in outputs), outputs[0] if len(outputs) == 1 else None)
    if found is None:
        raise BackboneError(
            f"{name} must have an output called {_OUTPUTS[0]}, or one alone, but has: {', '.join(outputs)}.",
            "Name the one to take with --feature-node.",
        )
    return found


@dataclass(frozen=True, slots=True)
class _Holder:
    graph: Any


def _check_inputs(graph: Any, name: str) -> None:
    from onnx import TensorProto

    inputs = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    if not set(text_graph.INPUTS) <= inputs.keys() or not inputs.keys() <= set(_KNOWN):
        found = ", ".join(inputs) or "nothing"
        raise BackboneError(
            f"{name} must take input_ids and attention_mask, and maybe {_TYPES}, but takes: {found}.",
            "Export the encoder alone, for the task feature-extraction.",
        )
    for each, kind in inputs.items():
        if kind not in (TensorProto.INT64, TensorProto.INT32):
            raise BackboneError(f"The input {each!r} of {name} must be int64 or int32.", "Export it again.")


# ── The graph ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rebuilt(
    network: Any, tensor: str, rank: int, pool: str, dimension: int, tokenizer: TokenizerJson, name: str
) -> Any:
    from onnx import compose, helper

    model = settle_opset(network, name)
    widen(model)
    fold_constants(model, name)
    model = compose.add_prefix(model, _PREFIX)
    keep_what_leads_to(model, _PREFIX + tensor)
    before, after = GraphWriter(), GraphWriter()
    _feed(model.graph, before)
    if rank == 3:
        text_graph.pool(after, _PREFIX + tensor, pool)
    else:
        after.node("Identity", [_PREFIX + tensor], "features")
    nodes = [*before.nodes, *model.graph.node, *after.nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend((*before.constants, *after.constants))
    for field, made in (("input", text_graph.inputs()), ("output", [text_graph.output(dimension)])):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(ends(made))
    finish(model, name)
    helper.set_model_props(model, {TOKENIZER_KEY: tokenizer.text})
    return model


def _feed(graph: Any, before: GraphWriter) -> None:
    """Let what `graph` takes come from `input_ids` and `attention_mask`, by nodes added to `before`."""
    from onnx import TensorProto

    for value in graph.input:
        source = value.name.removeprefix(_PREFIX)
        if source == _TYPES:  # a text is one sentence, of type 0
            source = before.node("Sub", ["input_ids", "input_ids"], "feed/types")
        if value.type.tensor_type.elem_type == TensorProto.INT32:
            source = before.node("Cast", [source], f"feed/{value.name}", to=TensorProto.INT32)
        rename(graph, value.name, source)


# ── The proof ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Run:
    """A network in a session, fed with as many of `names` as it takes."""

    def __init__(self, data: bytes, name: str, names: Any) -> None:
        self._name, self._names = name, tuple(names)
        try:
            self._session = engine.open_session(data, provider="cpu", name=name)
        except ModelError as error:
            raise BackboneError(error.message, error.hint) from error
        self._kinds = {each.name: np.int32 if "int32" in each.type else np.int64 for each in self._session.get_inputs()}

    def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return its output for `ids` and `mask` int64 [N, T]; raises BackboneError when it cannot be run on them."""
        given = dict(zip(_KNOWN, (ids, mask, np.zeros_like(ids)), strict=True))
        feed = {name: given[name].astype(self._kinds[name]) for name in self._names}
        try:
            return self._session.run(None, feed)[0]
        except Exception as error:  # onnxruntime's exception classes share no base but Exception
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
            size = " × ".join(map(str, ids.shape))
            raise BackboneError(f"onnxruntime cannot run {self._name} on {size} tokens: {reason}.", _DYNAMIC) from error


def _longest(run: _Run, most: int, tokenizer: TokenizerJson, name: str) -> int:
    """Return the most tokens, `most` or a half, a quarter … of it, that the network can be run on."""
    if not run(*_texts(tokenizer, 1, _SHORTEST)).size:
        raise BackboneError(f"{name} gives nothing for a text.", _DYNAMIC)
    while most > _SHORTEST:
        try:
            run(*_texts(tokenizer, 1, most))
        except BackboneError:
            most //= 2
        else:
            return most
    return _SHORTEST


def _texts(tokenizer: TokenizerJson, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up tokens, the largest id among them, and their mask, int64 [`count`, `length`]; each is shorter."""
    ids = np.random.default_rng(0).integers(0, tokenizer.largest_id + 1, (count, length))
    ids[0, 0] = tokenizer.largest_id
    mask = (np.arange(length) < length - 3 * np.arange(count)[:, None]).astype(np.int64)
    ids[ids == tokenizer.pad_id] = tokenizer.largest_id
    return np.where(mask, ids, tokenizer.pad_id), mask


def _expected(run: _Run, tokenizer: TokenizerJson, pool: str, length: int, name: str) -> tuple[np.ndarray, int]:
    """Return the features that the network gives for a few texts, each alone and without padding, and their rank."""
    rows = []
    for ids, mask in zip(*_texts(tokenizer, 3, length), strict=True):
        values = run(ids[None, : mask.sum()], mask[None, : mask.sum()]).astype(np.float32)
        if (
            values.ndim not in (2, 3)
            or len(values) != 1
            or values.shape[1] != (mask.sum(), values.shape[1])[values.ndim == 2]
        ):
            raise BackboneError(
                f"{name} must give hidden states [N, T, H] or features [N, H], but gives {list(values.shape)} for "
                f"{mask.sum()} tokens.",
                "Name another output with --feature-node.",
            )
        rows.append(values[0] if values.ndim == 2 else _pooled(values[0], pool))
    if not np.isfinite(rows).all():
        raise BackboneError(f"{name} gives numbers that are not finite.", "Check the file.")
    return np.stack(rows), values.ndim


def _pooled(values: np.ndarray, pool: str) -> np.ndarray:
    return {"avg": values.mean(0), "max": values.max(0), "cls": values[0]}[pool]


def _check_agreement(run: _Run, expected: np.ndarray, tokenizer: TokenizerJson, length: int, name: str) -> None:
    """Raise BackboneError unless `run` gives `expected` for the same texts in one batch, with padding."""
    found = run(*_texts(tokenizer, len(expected), length))
    worst = float(np.abs(found - expected).max() / (np.abs(expected).max() or 1))
    if found.shape != expected.shape or not worst <= _TOLERANCE:
        raise BackboneError(
            f"{name} must give a text the same features in a batch, with padding, as alone, but is off by {worst:.1e}.",
            "Export it with its attention mask, or take another --pool.",
        )


def _told(tensor: str, rank: int, pool: str | None) -> tuple[str, ...]:
    if rank == 2:
        return (f"features are its output {tensor!r}, pooled already",)
    return () if pool else (f"features are the mean of its output {tensor!r} over a text",)
