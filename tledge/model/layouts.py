"""Layouts: the folders in which others expect a model file, with what they want to lie beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tledge import places
from tledge.errors import MissingExtra, TledgeError
from tledge.modalities import READERS

if TYPE_CHECKING:
    import onnx

LAYOUTS = ("file", "triton", "onnxruntime-web")
_WEB = Path(__file__).parent / "web"
_MOST_IN_A_BATCH = 32  # where throughput stops growing for the backbones tried


def check_free(out: Path, layout: str, name: str, *, force: bool) -> None:
    """Raise OutputError unless `out` may become the `layout` of a model called `name`."""
    if layout == "file":
        return places.check_free_file(out, force=force)
    entries: dict[PurePosixPath, list[str]] = {}
    for path in _paths(layout, name):
        for each in (path, *path.parents[:-1]):
            inside = entries.setdefault(each.parent, [])
            inside += [each.name] if each.name not in inside else []
    for folder in sorted(entries):  # replacing a folder takes all that is in it: each must hold nothing but ours
        places.check_free_folder(out / folder, force=force, files=entries[folder])
    return None


def write(out: Path, layout: str, name: str, content: bytes, *, force: bool) -> Path:
    """Write the model file `content` to `out` in `layout`, whole or not at all; returns where the model file lies.

    Raises TledgeError when the layout is not for such a model, MissingExtra without onnx, OutputError.
    """
    if layout == "file":
        places.write_whole(out, content)
        return out
    files = _triton(name, content) if layout == "triton" else _web(content)
    with places.whole_folder(out, force=force) as work:
        for path, each in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(each)
    return out / next(path for path in files if path.name == "model.onnx")


def model_name(run: Path) -> str:
    """Return what to call the model of the folder `run` where letters, digits, `_`, `.` and `-` are allowed."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", run.resolve().name).strip(".") or "model"


def _paths(layout: str, name: str) -> list[PurePosixPath]:
    if layout == "triton":
        paths = [f"{name}/config.pbtxt", f"{name}/labels.txt", f"{name}/1/model.onnx"]
    else:
        paths = ["classify.js", "index.html", "labels.json", "model.onnx", "preprocess.json"]
    return [PurePosixPath(path) for path in paths]


def _triton(name: str, content: bytes) -> dict[PurePosixPath, bytes]:
    """Source: Triton's model_configuration.md and model_config.proto; dims leave out a batch that is not fixed."""
    model = _parsed(content)
    (given,), (made,) = model.graph.input, model.graph.output
    fixed = given.type.tensor_type.shape.dim[0].dim_value  # then Triton must not put batches together itself
    config = f"""\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {0 if fixed else _MOST_IN_A_BATCH}
input [ {{ name: "{given.name}" data_type: {_type(given)} dims: {_dims(given, fixed)} }} ]
output [ {{ name: "{made.name}" data_type: {_type(made)} dims: {_dims(made, fixed)} label_filename: "labels.txt" }} ]
"""
    config += "" if fixed else "dynamic_batching { }\n"
    classes = json.loads(_entries(model)["classes"])
    labels = "".join(" ".join(each.splitlines()) + "\n" for each in classes)  # one line each, whatever they hold
    return dict(zip(_paths("triton", name), (config.encode(), labels.encode(errors="replace"), content), strict=True))


def _web(content: bytes) -> dict[PurePosixPath, bytes]:
    model = _parsed(content)
    entries = _entries(model)
    manifest = json.loads(entries["tledge.manifest"])
    if (kind := manifest["preprocess"]["kind"]) != "image":
        found = f"{READERS[kind].noun}s"
        raise TledgeError(f"A page in a browser takes pictures, and this model takes {found}.", "Use --layout file.")
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value > 1:
        raise TledgeError("The page classifies one picture at a time, this model wants more.", "Leave --batch away.")
    labels = {key: manifest[key] for key in ("classes", "multilabel", "thresholds")}
    script, page = ((_WEB / each).read_bytes() for each in ("classify.js", "index.html"))
    files = (script, page, json.dumps(labels).encode(), content, entries["preprocess"].encode())
    return dict(zip(_paths("onnxruntime-web", ""), files, strict=True))


def _parsed(content: bytes) -> onnx.ModelProto:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    return onnx.load_model_from_string(content)


def _entries(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _type(value: onnx.ValueInfoProto) -> str:
    import onnx

    return {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}[value.type.tensor_type.elem_type]


def _dims(value: onnx.ValueInfoProto, fixed: int) -> str:
    dims = value.type.tensor_type.shape.dim[0 if fixed else 1 :]
    return json.dumps([dim.dim_value or -1 for dim in dims])
