"""The table of backbones. A new family is one file with NAMES, `describe`, `check` and `load`, and a line in FAMILIES.

A kind of file that users bring is one file with `accepts(path)` and `load(path, cache_dir, options, on_stage)`, and one
line in DOORS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from tledge.backbones import encoder_folder, keras_families, minilm, speech_embedding, word_vectors
from tledge.backbones.from_keras import file as keras_file
from tledge.backbones.from_onnx import file as onnx_file
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import Backbone, BackboneInfo, BackboneOptions

FAMILIES: tuple[ModuleType, ...] = (keras_families, speech_embedding, minilm, word_vectors)
DOORS = (encoder_folder, keras_file, onnx_file, word_vectors)
FILE_ENDINGS = (".keras", ".h5", ".hdf5", ".onnx", *word_vectors.ENDINGS)
_HOMES: dict[str, ModuleType] = {name: family for family in FAMILIES for name in family.NAMES}
_DEFAULTS = BackboneOptions()


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_HOMES)


def describe() -> list[BackboneInfo]:
    """Return what there is to know of each backbone without reading weights or importing TensorFlow."""
    return [info for family in FAMILIES for info in family.describe()]


def check_name(name_or_path: str, options: BackboneOptions = _DEFAULTS) -> None:
    """Raise BackboneError unless there is such a backbone, and, of those with a name, `options` make sense for it."""
    if _is_file(name_or_path):
        _door(Path(name_or_path))
    else:
        home(name_or_path).check(name_or_path, options)


def home(name: str) -> ModuleType:
    """Return the family of the backbone `name`. Raises BackboneError with the nearest name when there is none."""
    if name in _HOMES:
        return _HOMES[name]
    raise BackboneError(f"There is no backbone called {name!r}.", did_you_mean(name, _HOMES))


def load(
    name_or_path: str,
    cache_dir: Path,
    options: BackboneOptions = _DEFAULTS,
    *,
    on_stage: Callable[[str], None] | None = None,
) -> Backbone:
    """Return the backbone called so, or in the user's own file, converted once and then kept in `cache_dir`/backbones.

    A name is one of `names`; what names a file or folder that exists, or ends like one, is a network of the user's own.
    `on_stage` is told in a few words when something takes long. A kept file that was damaged is converted again.
    Raises BackboneError (unknown name, senseless options, damaged or unreachable weights), MissingExtra, OutputError.
    """
    tell = on_stage or (lambda _: None)
    if _is_file(name_or_path):
        path = Path(name_or_path)
        return _door(path).load(path, Path(cache_dir), options, tell)
    return home(name_or_path).load(name_or_path, Path(cache_dir), options, tell)


def _is_file(name_or_path: str) -> bool:
    path = Path(name_or_path)
    return name_or_path not in _HOMES and (path.suffix.lower() in FILE_ENDINGS or path.exists())


def _door(path: Path) -> ModuleType:
    if not path.exists():
        raise BackboneError(f"There is no file {path}.", "Check the path.")
    for door in DOORS:
        if door.accepts(path):
            return door
    raise BackboneError(
        f"{path} is no network that can be read.",
        f"A network is a file that ends in {', '.join(FILE_ENDINGS)}, or a folder that Keras or TensorFlow saved, "
        "or that holds model.onnx and tokenizer.json.",
    )
