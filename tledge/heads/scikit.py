"""Estimators of scikit-learn as heads: converted by skl2onnx, with a tail of ours, and judged as the graph they are.

`Head.arrays` holds the graph's bytes as `onnx`, uint8. onnxruntime computes the probabilities from it, so that what is
measured is what ships.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge import engine
from tledge.errors import DataError, MissingExtra
from tledge.graph_writer import ML_OPSET, OPSET
from tledge.heads.graphs import finish
from tledge.schema import Head

if TYPE_CHECKING:
    import onnx

NEEDS = ("sklearn", "skl2onnx")
Steps = Sequence[tuple[str, np.ndarray | None]]  # operators, each with its constant second operand or none
_ROWS = 4096
_FAR_BELOW = -50.0  # the logit of a class without samples, of which the estimator knows nothing


def to_graph(
    estimator: Any, dimension: int, classes: int, *, before: Steps = (), after: Steps = (), raw: bool = False
) -> np.ndarray:
    """Return the bytes, uint8, of a fitted classifier as a head's graph.

    `features` go through the operators `before` it, its scores (with `raw` its decision values) through those `after`
    it, which make logits of the classes that it knows, and those through a softmax. `estimator.classes_` are ints in
    0..classes-1.
    """
    from onnx import helper

    nodes, constants = _chain(before, "features", "before")
    middle, known = _converted(estimator, dimension, raw, nodes[-1].output[0] if nodes else "features")
    behind, further = _chain([*after, *_all_classes(estimator.classes_, classes)], "scores", "after")
    softmax = helper.make_node("Softmax", [behind[-1].output[0]], ["probabilities"], "softmax", axis=-1)
    model = finish([*nodes, *middle, *behind, softmax], [*constants, *known, *further], dimension, classes, ml=True)
    return np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    """Return float32 [n, classes] for `features` float32 [n, d], as onnxruntime computes them from the graph."""
    session = engine.open_session(head.arrays["onnx"].tobytes(), provider="cpu", name=f"The head '{head.kind}'")
    rows = [
        session.run(["probabilities"], {"features": features[start : start + _ROWS]})[0]
        for start in range(0, len(features), _ROWS)
    ]
    return np.concatenate(rows) if rows else np.empty((0, session.get_outputs()[0].shape[1]), np.float32)


def graph(head: Head) -> onnx.ModelProto:
    """Return the graph of the head."""
    import onnx

    return onnx.load_from_string(head.arrays["onnx"].tobytes())


def require_two(labels: np.ndarray, kind: str) -> None:
    """Raise DataError unless `labels` int [n] are of two classes at least."""
    if len(np.unique(labels)) < 2:
        raise DataError(f"The head '{kind}' is fitted to two classes at least, found samples of one.", "Add samples.")


def all_logits(known: np.ndarray, logits: np.ndarray, classes: int) -> np.ndarray:
    """Spread `logits` [n, len(known)] of the classes `known` over all; those of the others are far below."""
    spread = np.full((len(logits), classes), _FAR_BELOW)
    spread[:, known] = logits
    return spread


def _all_classes(known: np.ndarray, classes: int) -> list[tuple[str, np.ndarray]]:
    """Return the operators that do in the graph what `all_logits` does, none where every class is known."""
    if len(known) == classes:
        return []
    place = (known[:, None] == np.arange(classes)).astype(np.float32)
    return [("MatMul", place), ("Add", np.where(place.any(axis=0), 0.0, _FAR_BELOW))]


def _chain(steps: Steps, start: str, prefix: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes, each on what the one before it gave, and their constants."""
    from onnx import helper, numpy_helper

    nodes, constants, current = [], [], start
    for number, (operator, operand) in enumerate(steps):
        inputs, current = [current], f"{prefix}{number}"
        if operand is not None:
            inputs.append(f"{current}.operand")
            constants.append(numpy_helper.from_array(np.asarray(operand, np.float32), inputs[1]))
        nodes.append(helper.make_node(operator, inputs, [current], current))
    return nodes, constants


def _converted(
    estimator: Any, dimension: int, raw: bool, features: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return what computes the estimator's `scores` from what is called `features`."""
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError as error:
        raise MissingExtra("skl2onnx", "train") from error
    options = {"zipmap": False} | ({"raw_scores": True} if raw else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # skl2onnx looks at attributes that scikit-learn will drop
        converted = convert_sklearn(
            estimator,
            initial_types=[("features", FloatTensorType([None, dimension]))],
            options={id(estimator): options},
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        ).graph
    scores = next(output.name for output in converted.output if output.name.startswith("probabilities"))
    nodes = _needed_for(scores, list(converted.node))
    _rename(nodes, {scores: "scores", "features": features})
    return nodes, list(converted.initializer)


def _needed_for(name: str, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return those of `nodes`, in order, that `name` is computed by: the predicted label is nobody's business here."""
    wanted, kept = {name}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.insert(0, node)
    return kept


def _rename(nodes: list[onnx.NodeProto], names: dict[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
