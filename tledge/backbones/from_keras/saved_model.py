"""A SavedModel folder: a graph of TensorFlow operators, of which only plain arithmetic is let through.

TensorFlow's own loader runs what the file calls its restore and init operators, and graphs can read and write files,
open connections and call Python. It is not used here: the serving signature is taken out of the protobuf; every
operator that it reaches, through functions too, must stand in the table below; weights are read from the checkpoint by
name and become constants. What is guaranteed is that no operator outside the table is ever loaded or run. What is
trusted is TensorFlow's reading of protobuf and checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tledge.backbones.from_keras.graph_operators import TRUST, functions_of, judged, node_name
from tledge.errors import BackboneError, did_you_mean

GRAPH_FILE, VARIABLES = "saved_model.pb", Path("variables", "variables")
_SIGNATURE, _TAG, _OBJECTS = "serving_default", "serve", "_CHECKPOINTABLE_OBJECT_GRAPH"
_LARGEST_GRAPH_BYTES = 2 << 30
_PASSED = frozenset({"Identity", "NoOp", "Reshape", "Squeeze", "BiasAdd", "Add", "AddV2", "Mean"})
_SILENT = frozenset({"Const", "Identity", "NoOp", "Placeholder"})
_SCALING = frozenset({"Mul", "Sub", "Add", "AddV2", "RealDiv"})
_ENDS = frozenset({"Softmax", "Sigmoid", "Mean", "Reshape", "Squeeze"})


@dataclass(frozen=True, slots=True)
class GraphNetwork:
    """A Keras model of one layer, which computes a frozen graph up to its features; names as in keras_cut.Cut.

    `scales` tells that the graph begins with arithmetic on the pixels.
    """

    model: Any
    layer: str
    classifier: str | None
    scales: bool


def accepts(path: Path) -> bool:
    """Tell whether `path` is a folder that holds a SavedModel."""
    return (path / GRAPH_FILE).is_file()


def digest(path: Path) -> str:
    """Return the SHA-256, in hex, over all that is read of the folder. Raises BackboneError when it cannot be."""
    whole = hashlib.sha256()
    try:
        for file in (path / GRAPH_FILE, *sorted(path.glob(f"{VARIABLES}*"))):
            with file.open("rb") as stream:
                whole.update(f"{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()};".encode())
    except OSError as error:
        raise BackboneError(f"Cannot read {error.filename}: {error.strerror}.", "Give a whole SavedModel.") from error
    return whole.hexdigest()


def read(keras: ModuleType, path: Path, feature: str | None) -> GraphNetwork:
    """Return the network in the folder at `path`, cut at the node `feature`, by default before its classifier.

    Raises BackboneError for operators outside the table, more than one input or output, or a node that is not there.
    """
    meta = _meta_graph(path)
    given, returned = _ends(meta, path)
    graph = judged(meta, returned)
    frozen, given, returned = _frozen(graph, _values(path, meta, graph), given, returned)
    classifier, features = _cut(frozen, returned, given, feature)
    layer = _layer_class(keras)(frozen.SerializeToString(), given, features, name="graph")
    node = next(node for node in frozen.node if node.name == given.split(":")[0])
    dims = [side.size if side.size > 0 else None for side in node.attr["shape"].shape.dim][1:]
    if not dims:
        raise BackboneError(f"{path.name} does not say the shape of its input.", TRUST)
    pixels = keras.Input(tuple(dims))
    model = keras.Model(pixels, layer(pixels), name="saved_model")
    return GraphNetwork(model, _short(features), classifier and _short(classifier), _scales(frozen, given))


def _meta_graph(path: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / GRAPH_FILE
    if file.stat().st_size > _LARGEST_GRAPH_BYTES:
        raise BackboneError(f"{file} is longer than {_LARGEST_GRAPH_BYTES >> 30} GiB.", TRUST)
    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except Exception as error:  # protobuf's own kind of error depends on how it was built
        raise BackboneError(f"{file} is not a SavedModel.", TRUST) from error
    for meta in saved.meta_graphs:
        if _TAG in meta.meta_info_def.tags and _SIGNATURE in meta.signature_def:
            return meta
    raise BackboneError(f"{path.name} has no signature {_SIGNATURE!r}.", TRUST)


def _ends(meta: Any, path: Path) -> tuple[str, str]:
    signature = meta.signature_def[_SIGNATURE]
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise BackboneError(f"{path.name} must have one input and one output in {_SIGNATURE}.", TRUST)
    return next(iter(signature.inputs.values())).name, next(iter(signature.outputs.values())).name


def _values(path: Path, meta: Any, graph: Any) -> dict[str, Any]:
    """Return the array of each variable that `graph` reads, by the name of its node.

    What a function captures is listed by object; the tree of objects in the SavedModel and the one in the checkpoint
    have the same branches, and the latter knows the keys.
    """
    from tensorflow import train
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    variables = {node.name for node in graph.node if node.op == "VarHandleOp"}
    if not variables:
        return {}
    try:
        checkpoint = train.load_checkpoint(str(path / VARIABLES))
        tree = trackable_object_graph_pb2.TrackableObjectGraph.FromString(checkpoint.get_tensor(_OBJECTS))
        keys = _keys(meta.object_graph_def.nodes, tree.nodes)
        objects: dict[str, int] = {}
        for node in graph.node:
            for name in functions_of(node):
                captured = meta.object_graph_def.concrete_functions[name].bound_inputs
                objects.update(zip(list(node.input)[len(node.input) - len(captured) :], captured, strict=True))
        return {name: checkpoint.get_tensor(keys[objects[name]]) for name in variables}
    except Exception as error:  # TensorFlow raises many kinds for damaged checkpoints
        raise BackboneError(f"The variables of {path.name} cannot be read.", "Give a whole SavedModel.") from error


def _keys(saved: Any, kept: Any) -> dict[int, str]:
    """Return the key in the checkpoint of each object of the SavedModel that is a variable."""
    pairs, keys, pending = {(0, 0)}, {}, [(0, 0)]
    while pending:
        here, there = pending.pop()
        if kept[there].attributes:
            keys[here] = kept[there].attributes[0].checkpoint_key
        branches = {child.local_name: child.node_id for child in kept[there].children}
        for child in saved[here].children:
            pair = (child.node_id, branches.get(child.local_name))
            if pair[1] is not None and pair not in pairs:
                pairs.add(pair)
                pending.append(pair)
    return keys


def _frozen(graph: Any, values: dict[str, Any], given: str, returned: str) -> tuple[Any, str, str]:
    """Return `graph` with its functions inlined and its variables as constants, and its two ends."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    variables = {f"{name}:0": tf.Variable(value) for name, value in values.items()}
    (placeholder,) = (node for node in graph.node if node.name == node_name(given))
    dims = [side.size if side.size > 0 else None for side in placeholder.attr["shape"].shape.dim]
    shape = tf.TensorShape(None if placeholder.attr["shape"].shape.unknown_rank else dims)

    def run(numbers: Any) -> Any:
        inner = tf.compat.v1.get_default_graph()
        for variable in variables.values():
            inner.watch_variable(variable)
        handles = {name: inner.capture(variable.handle) for name, variable in variables.items()}
        return tf.graph_util.import_graph_def(graph, {given: numbers, **handles}, [returned], name="")[0]

    dtype = tf.dtypes.as_dtype(placeholder.attr["dtype"].type)
    function = tf.function(run, autograph=False).get_concrete_function(tf.TensorSpec(shape, dtype, name="given"))
    constant = convert_variables_to_constants_v2(function, aggressive_inlining=True)
    return constant.graph.as_graph_def(), constant.inputs[0].name, constant.outputs[0].name


def _cut(graph: Any, returned: str, given: str, feature: str | None) -> tuple[str | None, str]:
    """Return the classifier's node (None where none is found) and the tensor that holds the features."""
    nodes = {node.name: node for node in graph.node}
    if feature is not None:
        names = {_short(node.name): node.name for node in graph.node if node.op not in _SILENT}
        if feature not in names:
            raise BackboneError(f"The graph has no node called {feature!r}.", did_you_mean(feature, names))
        return None, f"{names[feature]}:0"
    classifier = _classifier(nodes, node_name(returned))
    if classifier is None or node_name(classifier.input[0]) == node_name(given):
        return None, returned
    features = classifier.input[0]
    return classifier.name, features if ":" in features else f"{features}:0"


def _classifier(nodes: dict[str, Any], name: str) -> Any:
    seen: set[str] = set()
    while True:
        node = nodes[name]
        if node.op == "MatMul":
            return node
        if node.op == "Conv2D":
            kernel = nodes[node_name(node.input[1])].attr["value"].tensor.tensor_shape.dim
            return node if seen & _ENDS and [side.size for side in kernel[:2]] == [1, 1] else None
        # A rectifier belongs to a classifier only where probabilities are made of what it leaves.
        passed = node.op in _PASSED or node.op in ("Softmax", "Sigmoid") or (node.op == "Relu" and "Softmax" in seen)
        if not passed or not _all_constant(nodes, node.input[1:]):
            return None
        seen.add(node.op)
        name = node_name(node.input[0])


def _all_constant(nodes: dict[str, Any], names: Iterable[str]) -> bool:
    """Tell whether nodes hold constants; the shape of a Reshape may be put together of the input's."""
    return all(nodes[node_name(name)].op in ("Const", "Identity", "Pack") for name in names if not name.startswith("^"))


def _scales(graph: Any, given: str) -> bool:
    name = node_name(given)
    while True:
        readers = [node for node in graph.node if node.op != "NoOp" and name in map(node_name, node.input)]
        if len(readers) != 1 or readers[0].op not in ("Cast", "Identity"):
            return any(node.op in _SCALING for node in readers)
        name = readers[0].name


def _short(name: str) -> str:
    """Return the name of a node without the calls that led to it."""
    return re.sub(r"^((Stateful)?PartitionedCall(_\d+)?/)+", "", node_name(name))


def _layer_class(keras: ModuleType) -> Any:
    """Return the class of a layer without weights that computes a frozen graph."""
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    class FrozenGraph(keras.layers.Layer):
        def __init__(self, graph: bytes, given: str, returned: str, **settings: Any) -> None:
            super().__init__(**settings)
            self.settings = {"graph": graph, "given": given, "returned": returned}
            definition = graph_pb2.GraphDef.FromString(graph)
            whole = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
            ends = (tf.nest.map_structure(whole.graph.as_graph_element, end) for end in (given, returned))
            self.function = whole.prune(*ends)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), **self.settings}

        def call(self, numbers: Any) -> Any:
            return self.function(tf.cast(numbers, self.function.inputs[0].dtype))

    return FrozenGraph
