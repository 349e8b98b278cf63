"""Read what a Keras file says of its network, without Keras and without running anything that the file brings.

A `.keras` file is a zip of config.json and model.weights.h5; a `.h5` file of Keras 2 or 3 has the config as an
attribute and the weights in groups. Which one it is shows in the bytes: early Keras 2 wrote HDF5 under both names.
HDF5 can point into other files, and both can promise far more bytes than they hold, so everything is looked at before
anything is read into memory.
Source: the HDF5 format's links, external storage and virtual datasets; the zip format's declared sizes.
"""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.errors import BackboneError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
HDF5_SUFFIXES = (".h5", ".hdf5")
_LARGEST_CONFIG_BYTES = 64 << 20
_LARGEST_WEIGHTS_BYTES = 8 << 30
# Trained weights hardly compress; zeros of an untrained network do, but they are few.
_LARGEST_EXPANSION, _FREE_BYTES = 100, 64 << 20
_HINT = "Save it again with model.save('NAME.keras'), or convert it to ONNX."


@dataclass(frozen=True, slots=True)
class KerasArchive:
    """A network as its file describes it: `config` is class, settings and layers; `weights` is safe to read.

    `keras_version` is that of the Keras which wrote it, "" where the file does not say.
    """

    config: dict[str, Any]
    weights: Path
    keras_version: str


def read_archive(path: Path, folder: Path) -> KerasArchive:
    """Return what the `.keras`, `.h5` or `.hdf5` file at `path` holds; weights inside a zip are unpacked into `folder`.

    Nothing in the config has been judged yet. Raises BackboneError when the file is no such file, holds weights only,
    points outside itself, or declares more than it can hold.
    """
    try:
        return _read_zip(path, folder) if zipfile.is_zipfile(path) else _read_hdf5(path)
    except FileNotFoundError as error:
        raise BackboneError(f"There is no file {path}.") from error
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError) as error:
        raise BackboneError(f"{path.name} is not a readable Keras file: {_first_line(error)}.", _HINT) from error


def _read_zip(path: Path, folder: Path) -> KerasArchive:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        for name in (CONFIG, WEIGHTS):
            if name not in members:
                raise BackboneError(f"{path.name} must hold {name}, but has none.", _HINT)
        config = _json(_unpacked(archive, members[CONFIG], _LARGEST_CONFIG_BYTES), path)
        metadata = members.get(METADATA)
        version = _json(_unpacked(archive, metadata, _LARGEST_CONFIG_BYTES), path) if metadata else {}
        weights = folder / WEIGHTS
        _unpack(archive, members[WEIGHTS], weights)
    with _open(weights) as file:
        _check_hdf5(file, path.name, weights.stat().st_size)
    return KerasArchive(config, weights, str(version.get("keras_version", "")))


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, largest_bytes: int) -> bytes:
    with archive.open(info) as stream:
        data = stream.read(largest_bytes + 1)
    if len(data) > largest_bytes:
        raise BackboneError(f"{info.filename} unpacks to more than {largest_bytes >> 20} MiB.", _HINT)
    return data


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Write one member to `target`, by pieces: what a zip declares of its sizes is not to be believed."""
    limit = min(_LARGEST_WEIGHTS_BYTES, _allowed_bytes(info.compress_size))
    written = 0
    with archive.open(info) as stream, target.open("xb") as file:
        while piece := stream.read(1 << 20):
            written += len(piece)
            if written > limit:
                raise BackboneError(f"{info.filename} unpacks to far more than its {info.compress_size} bytes.", _HINT)
            file.write(piece)


def _read_hdf5(path: Path) -> KerasArchive:
    with _open(path) as file:
        if "model_config" not in file.attrs:
            raise BackboneError(
                f"{path.name} holds weights without a network.",
                "Save the whole model, with model.save; weights of a Keras application go to --weights.",
            )
        _check_hdf5(file, path.name, path.stat().st_size)
        config = _json(_text(file.attrs["model_config"]), path)
        version = _text(file.attrs.get("keras_version", b"")).decode("utf-8", "replace")
    return KerasArchive(config, path, version)


def _open(path: Path) -> Any:
    import h5py  # comes with Keras

    return h5py.File(path, "r")


def _check_hdf5(file: Any, name: str, size_bytes: int) -> None:
    """Raise BackboneError unless every object in `file` is in `file`, and no bigger than its bytes can hold."""
    pending, seen, declared_bytes = [file], {file["/"]}, 0
    while pending:
        group = pending.pop()
        for key in group:
            item = _linked(group, key, name)
            if item in seen:  # by its address: a link that leads back up would make a tree without an end
                raise BackboneError(f"{name} has two names for what is at {group.name}/{key}.", _HINT)
            seen.add(item)
            if hasattr(item, "keys"):
                pending.append(item)
            else:
                declared_bytes += _declared_bytes(item, name)
    if declared_bytes > min(_LARGEST_WEIGHTS_BYTES, _allowed_bytes(size_bytes)):
        raise BackboneError(f"{name} declares {declared_bytes} bytes of weights in {size_bytes} bytes of file.", _HINT)


def _allowed_bytes(stored_bytes: int) -> int:
    return max(_FREE_BYTES, _LARGEST_EXPANSION * stored_bytes)


def _linked(group: Any, key: str, name: str) -> Any:
    import h5py

    link = group.get(key, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise BackboneError(
            f"{name} points out of its own tree at {group.name}/{key}, which weights never need.", _HINT
        )
    return group[key]


def _declared_bytes(item: Any, name: str) -> int:
    import h5py

    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise BackboneError(f"{name} holds something else than arrays at {item.name}.", _HINT)
    if item.is_virtual or item.external:
        raise BackboneError(f"{name} keeps {item.name} in another file.", "Save the model into one file.")
    return math.prod(item.shape) * item.dtype.itemsize


def _text(value: Any) -> bytes:
    value = getattr(value, "item", lambda: value)() if not isinstance(value, bytes | str) else value
    if not isinstance(value, bytes | str):
        raise ValueError("its model_config is no text")
    return value.encode() if isinstance(value, str) else value


def _json(data: bytes, path: Path) -> dict[str, Any]:
    if len(data) > _LARGEST_CONFIG_BYTES:
        raise BackboneError(f"The config in {path.name} is longer than {_LARGEST_CONFIG_BYTES >> 20} MiB.", _HINT)
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError("its config is nested without end") from error
    if not isinstance(content, dict):
        raise ValueError("its config is no JSON object")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
