"""A Keras file of the user's own: `.keras`, `.h5` of Keras 2 or 3, or a SavedModel folder.

Nothing that the file brings is run: see keras_archive (what may be read), keras_config (what may be built) and
saved_model (which operators may be there). The network is laid flat, cut before its classifier, and given pictures in
0..255 RGB, from which its own input (grey, BGR, flat rows) is made inside the graph.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tledge.backbones import sound_hints, sound_input
from tledge.backbones.conversion import Converted, convert_apart, key, require_converter
from tledge.backbones.from_keras import archive as keras_archive
from tledge.backbones.from_keras import saved_model
from tledge.backbones.from_keras.config import layers_of, plain_config
from tledge.backbones.from_keras.cut import Cut, cut
from tledge.backbones.from_keras.flatten import flatten
from tledge.backbones.from_keras.input import is_picture, taking_pictures, vector_spec
from tledge.backbones.kept_backbones import find_or_convert
from tledge.backbones.preprocess_hints import hints
from tledge.backbones.sound_hints import SoundHints
from tledge.errors import BackboneError
from tledge.schema import Backbone, BackboneOptions, InputSpec

SUFFIXES = (".keras", *keras_archive.HDF5_SUFFIXES)


def accepts(path: Path) -> bool:
    """Tell whether `path` looks like a Keras file, there or not, or is a SavedModel folder."""
    return path.suffix.lower() in SUFFIXES or saved_model.accepts(path)


def load(
    path: Path,
    cache_dir: Path,
    options: BackboneOptions = BackboneOptions(),  # noqa: B008 (frozen)
    on_stage: Callable[[str], None] | None = None,
) -> Backbone:
    """Return the network at `path` as a backbone, converted once and then kept in `cache_dir`/backbones.

    What `options` leave open comes from a JSON file beside it (preprocess_hints), then from the file itself, and what
    was taken for granted is in `assumed`. `on_stage` is told in a few words when something takes long.
    Raises BackboneError (no such file, code or custom layers inside, no such layer), MissingExtra, OutputError.
    """
    given = arguments(path, options)

    def convert() -> Converted:
        require_converter()
        if on_stage:
            on_stage(f"converting {path.name} to ONNX, once on this machine")
        return convert_apart(__name__, given)

    stem = f"{_safe(path.stem)}-{key(given['digest'], given['options'], given['sound'])}"
    kept = find_or_convert(cache_dir, stem, convert)
    assumed = tuple(kept.facts["assumed"])
    return Backbone(path.stem, kept.path, kept.preprocess, kept.dimension, kept.digest, assumed=assumed)


def arguments(path: Path, options: BackboneOptions) -> dict[str, Any]:
    """Return what `network` is called with for the file at `path`: plain values, hints beside the file included.

    Raises BackboneError for weights of another file, and when there is no such file.
    """
    if options.weights is not None:
        raise BackboneError(f"{path.name} brings its own weights.", "Leave out --weights.")
    settled, said = asdict(hints(path, options)), sound_hints.beside(path)
    asked = options.window_s is not None or options.hop_s is not None
    heard = said or (SoundHints() if asked else None)
    told = {"options": settled, "sound": asdict(heard) if heard else None}
    return {"name": path.name, "path": str(path.absolute()), "digest": _digest(path), **told}


def network(
    keras: ModuleType, name: str, path: str, digest: str, options: dict[str, Any], sound: dict[str, Any] | None = None
) -> tuple[Any, InputSpec, dict[str, Any]]:
    """Return the network at `path` up to its features, what it takes, and facts; for the converting process.

    It takes what the specification gives: normalised RGB [N, height, width, 3], [N, length], or, where `sound`, the
    fields of SoundHints, is not None, samples or a spectrogram in its own order of axes. The facts are `layer`
    (where the features come from), `classifier` (what was left out) and `assumed`. `digest` is that of the order, so
    that a file which has changed since is not taken for it.
    """
    wanted = BackboneOptions(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
    place, heard = Path(path), SoundHints(**sound) if sound is not None else None
    if _digest(place) != digest:
        raise BackboneError(f"{name} has changed while it was being read.", "Start again once it is complete.")
    if not place.is_dir():
        return prepare(keras, read(keras, place), wanted, sound=heard)
    graph = saved_model.read(keras, place, wanted.feature)
    features, spec, facts = prepare(keras, graph.model, replace(wanted, feature=None), graph, heard)
    return features, spec, facts | {"layer": graph.layer, "classifier": graph.classifier}


def read(keras: ModuleType, path: Path) -> Any:
    """Return the Keras model in a `.keras` or `.h5` file with its weights, built of plain layers only."""
    with tempfile.TemporaryDirectory(prefix="tledge-") as folder:
        archive = keras_archive.read_archive(path, Path(folder))
        try:
            config = plain_config(archive.config, archive.keras_version)
            _require_channels_last(config)
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            model.load_weights(_suffixed(archive.weights, Path(folder)))
        except BackboneError:
            raise
        except Exception as error:  # what Keras raises for a config that does not fit is not limited to a few kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise BackboneError(
                f"Keras {keras.__version__} cannot build {path.name}: {reason}.",
                "Convert it to ONNX with the Keras that it was made with.",
            ) from error
    return model


def prepare(
    keras: ModuleType,
    model: Any,
    options: BackboneOptions,
    before: saved_model.GraphNetwork | None = None,
    sound: SoundHints | None = None,
) -> tuple[Any, InputSpec, dict[str, Any]]:
    """Return `model` cut and given its inputs as `network` says, what it takes, and facts.

    `before` tells of a graph that was cut already, whose features need pooling at most; `sound` is what was said of the
    sounds that it hears.
    """
    inputs = model.inputs if model.built else []
    if len(inputs) != 1:
        raise BackboneError(
            f"The network must have one input of known shape, but has {len(inputs)}.",
            "Call it once on an example before it is saved.",
        )
    own = tuple(inputs[0].shape[1:])
    heard, told = sound_input.settle(own, sound, options, "the network") if sound else (None, [])
    taken = sound_input.shape(heard, sound_input.axes(own, heard) or "") if heard else own
    found = cut(keras, flatten(keras, model, taken), options)
    assumed = [_told_cut(before or found), *told] if options.feature is None else told
    if heard:
        features, spec = found.network, heard
    elif len(own) == 1 and not is_picture(own[0], options.input_size):
        features, spec = found.network, vector_spec(own[0], options)
    else:
        features, spec = taking_pictures(keras, found.network, options, assumed, before.scales if before else None)
    return features, spec, {"layer": found.layer, "classifier": found.classifier, "assumed": assumed}


def _told_cut(found: Cut | saved_model.GraphNetwork) -> str:
    if found.classifier is None:
        return f"the network has no classifier; features are its output, {found.layer}"
    return f"{found.classifier} is the classifier; features are what it is given, the output of {found.layer}"


def _require_channels_last(config: dict[str, Any]) -> None:
    for layer in layers_of(config):
        if layer["config"].get("data_format") == "channels_first":
            raise BackboneError(
                f"Layer {layer['config'].get('name')!r} takes channels first, which TensorFlow runs on GPUs only.",
                "Convert the network to ONNX with the Keras that it was made with.",
            )


def _suffixed(weights: Path, folder: Path) -> str:
    """Return a path to `weights` by whose end Keras knows the layout: a tree in `folder`, else groups of layers."""
    if weights.parent == folder:
        return str(weights)
    link = folder / "groups.h5"
    link.symlink_to(weights.absolute())
    return str(link)


def _digest(path: Path) -> str:
    if path.is_dir():
        return saved_model.digest(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackboneError(f"Cannot read {path}: {error.strerror}.", "Give a .keras or .h5 file.") from error


def _safe(stem: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "_" for c in stem)[:48]
