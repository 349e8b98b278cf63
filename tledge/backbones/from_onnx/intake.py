"""Read an ONNX file that a stranger may have made: what could reach beyond the file is refused before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tledge.backbones.from_onnx.graph import holds_graph, label, shapes
from tledge.errors import BackboneError

LARGEST_BYTES = 2**30
_LARGEST_TENSOR = 2**28
# Both are one domain; everything else, onnxruntime's own com.microsoft too, ties a model to one engine.
_STANDARD = ("", "ai.onnx")
_MACHINE_LEARNING = "ai.onnx.ml"
_EXTERNAL = 1


def read_bytes(path: Path) -> bytes:
    """Return the bytes of the ONNX file at `path`. Raises BackboneError when it is no file, empty or over 1 GiB."""
    try:
        if not path.is_file():
            raise BackboneError(f"There is no file {path}.", "Check the path given as --backbone.")
        size = path.stat().st_size
        if not 0 < size <= LARGEST_BYTES:
            raise BackboneError(
                f"{path.name} must be an ONNX file of at most {LARGEST_BYTES >> 20} MiB, but has {size} bytes.",
                "Take another file, or a smaller network.",
            )
        return path.read_bytes()
    except OSError as error:
        raise BackboneError(f"Cannot read {path}: {error.strerror}.", "Check its permissions.") from error


def parse(data: bytes, name: str) -> Any:
    """Return the onnx.ModelProto in `data`, checked; `name` is what to call the file.

    Raises BackboneError for what is no valid ONNX file, and for one that keeps weights in other files, or holds
    operators of other domains or functions of its own. Nothing but `data` is read.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise BackboneError(f"{name} is not an ONNX file, or was cut short.", _EXPORT_AGAIN) from error
    if not model.graph.node or not model.graph.output:
        raise BackboneError(f"{name} holds no ONNX graph.", _EXPORT_AGAIN)
    if not all(isinstance(text, str) for text in _names(model)):
        raise BackboneError(f"{name} holds names that are no UTF-8 text.", _EXPORT_AGAIN)
    _refuse_what_reaches_out(model, name)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise BackboneError(f"{name} is not valid ONNX: {_first_line(error)}.", _EXPORT_AGAIN) from error
    return model


_EXPORT_AGAIN = "Export it again from where it was made."


def refuse_subgraphs(model: Any, name: str) -> None:
    """Raise BackboneError when a node of `model` holds a graph of its own, as If, Loop and Scan do."""
    for node in model.graph.node:
        if holds_graph(node):
            raise BackboneError(
                f"{name} must compute the same steps for every sample, but has {label(node)}.",
                "Export it for inference with a fixed picture size, or name a node before it with --feature-node.",
            )


def refuse_large_tensors(model: Any, name: str) -> None:
    """Raise BackboneError when a tensor of `model`, with the shape of its input settled, has over 2²⁸ numbers."""
    for tensor, shape in shapes(model).items():
        count = 1
        for length in shape:
            count *= length or 1
        if count > _LARGEST_TENSOR:
            raise BackboneError(
                f"{name} would need a tensor of {' × '.join(str(length or '?') for length in shape)} for {tensor!r}.",
                "Take a smaller --input-size, or another network.",
            )


def _refuse_what_reaches_out(model: Any, name: str) -> None:
    if model.functions:
        raise BackboneError(
            f"{name} defines operators of its own ({model.functions[0].name}), which are not accepted.",
            "Write them out first, with onnx.inliner.inline_local_functions.",
        )
    for graph in _graphs(model.graph):
        if graph.sparse_initializer:
            raise BackboneError(f"{name} holds sparse weights, which are not accepted.", "Export it with dense ones.")
        for tensor in _tensors(graph):
            _refuse_external(tensor, name)
        for node in graph.node:
            _refuse_domain(node, name)


def _refuse_external(tensor: Any, name: str) -> None:
    if tensor.data_location == _EXTERNAL or tensor.external_data:
        raise BackboneError(
            f"{name} must hold its weights itself, but {tensor.name!r} lies in another file.",
            "Save it as one file: torch.onnx.export(…, external_data=False), or onnx.save(onnx.load(OLD), NEW).",
        )


def _refuse_domain(node: Any, name: str) -> None:
    if node.domain == _MACHINE_LEARNING or node.domain in _STANDARD:
        if node.domain == "ai.onnx":
            node.domain = ""
        return
    hint = "Export it with standard ONNX operators only."
    if node.domain.startswith("com.microsoft"):
        hint = "Take the file as it was before onnxruntime's optimizer or quantizer changed it."
    raise BackboneError(f"{name} must use standard operators, but {label(node)} is of domain {node.domain!r}.", hint)


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for each in node.attribute:
            for inner in ([each.g] if each.HasField("g") else []) + list(each.graphs):
                yield from _graphs(inner)


def _names(model: Any) -> Iterator[str | bytes]:
    """Yield what things are called; protobuf gives bytes in place of text that it cannot decode."""
    for graph in _graphs(model.graph):
        for node in graph.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (each.name for field in (graph.initializer, graph.input, graph.output) for each in field)
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    yield from (each.domain for each in model.opset_import)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for each in node.attribute:
            if each.HasField("t"):
                yield each.t
            yield from each.tensors
            for sparse in ([each.sparse_tensor] if each.HasField("sparse_tensor") else []) + list(each.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
