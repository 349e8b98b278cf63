"""No backbone at all: vectors are the features, as one ONNX graph like every other backbone."""

from __future__ import annotations

from pathlib import Path

from tledge.backbones import kept_files
from tledge.errors import MissingExtra
from tledge.schema import Backbone, VectorSpec

_OPSET, _IR_VERSION = 17, 8


def identity(length: int, cache_dir: Path) -> Backbone:
    """Return the graph `vector` float32 [N, length] → `features`, the same; kept in `cache_dir`/backbones.

    Raises MissingExtra without onnx, OutputError when it cannot be written.
    """
    folder, stem = cache_dir / "backbones", f"none-{length}"
    kept = kept_files.find(folder, stem) or kept_files.keep(folder, stem, _graph(length))
    return Backbone("none", kept.path, VectorSpec(length), length, kept.digest)


def _graph(length: int) -> bytes:
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    vector, features = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", length]) for name in ("vector", "features")
    )
    graph = helper.make_graph([helper.make_node("Identity", ["vector"], ["features"])], "none", [vector], [features])
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="tledge")
    return model.SerializeToString(deterministic=True)
