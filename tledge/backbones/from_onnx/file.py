"""An ONNX file of the user's own as a backbone: cut before its classifier, fed with bytes, for any number of pictures.

What was made is run beside the network as it came, and kept only when both agree. Of the file nothing is trusted: see
onnx_intake.py for what is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tledge.backbones import sound_hints, sound_input
from tledge.backbones.conversion import Converted, key
from tledge.backbones.from_onnx import intake as onnx_intake
from tledge.backbones.from_onnx import output as onnx_output
from tledge.backbones.from_onnx import proof as onnx_proof
from tledge.backbones.from_onnx.cut import Cut, find_cut
from tledge.backbones.from_onnx.feed import normalisation_within
from tledge.backbones.from_onnx.graph import keep_what_leads_to, lift_constants
from tledge.backbones.from_onnx.input import NetworkInput, read_input
from tledge.backbones.from_onnx.metadata import read_licence, read_metadata
from tledge.backbones.from_onnx.opset import version
from tledge.backbones.from_onnx.preprocess import settle_input
from tledge.backbones.from_onnx.rebuild import Plan, rebuild, settle_shape
from tledge.backbones.from_onnx.sound import SoundInput, read_sound_input
from tledge.backbones.kept_backbones import find_or_convert
from tledge.backbones.preprocess_hints import KEYS, hints
from tledge.backbones.sound_hints import SoundHints
from tledge.errors import BackboneError, MissingExtra
from tledge.graph_writer import OPSET
from tledge.schema import Backbone, BackboneOptions, InputSpec, Pool

# Part of the key under which a result is kept: raise it whenever the same file would give other bytes.
REVISION = 3


def accepts(path: Path) -> bool:
    """Tell whether `path` names an ONNX file."""
    return path.suffix.lower() == ".onnx"


def load(
    path: Path,
    cache_dir: Path,
    options: BackboneOptions | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Backbone:
    """Return the network in the ONNX file at `path` as a backbone, made once and then kept in `cache_dir`/backbones.

    What `options` leave open comes from the file's metadata, then from the JSON file beside it; the rest is taken for
    granted, and told in `Backbone.assumed`. Raises BackboneError (a file that is refused, no place to cut, no such
    node, wrong options), MissingExtra, OutputError.
    """
    options = options or BackboneOptions()
    if options.weights is not None:
        raise BackboneError(f"{path.name} has its weights within, so --weights cannot be given.", "Leave it out.")
    beside, data = hints(path, BackboneOptions()), onnx_intake.read_bytes(path)
    sound = sound_hints.beside(path)
    hints(path, options)  # checks them
    name = re.sub(r"[^\w.+]+", "_", path.stem, flags=re.ASCII) or "network"
    said = asdict(sound) if sound else None
    stem = f"{name}-{key('onnx', REVISION, hashlib.sha256(data).hexdigest(), asdict(options), asdict(beside), said)}"

    def convert() -> Converted:
        (on_stage or (lambda _: None))(f"making {path.name} a backbone, once on this machine")
        return _convert(data, path.name, options, beside, sound)

    kept = find_or_convert(cache_dir, stem, convert)
    licence, assumed = kept.facts["licence"], tuple(kept.facts["assumed"])
    return Backbone(name, kept.path, kept.preprocess, kept.dimension, kept.digest, licence=licence, assumed=assumed)


def _convert(
    data: bytes, name: str, options: BackboneOptions, beside: BackboneOptions, sound: SoundHints | None
) -> Converted:
    """Return the backbone made from the ONNX file `data`, which gives the features that `data` itself gives."""
    _require_onnx()
    network = onnx_intake.parse(data, name)
    sound = _sound(network, options, sound, name)
    for found in (BackboneOptions() if sound else read_metadata(network, name), beside):
        options = _fill(options, found)
    licence = read_licence(network)
    cut = _cut(network, options, name)
    form, spec, assumed = _settle(network, options, sound, name)
    settle_shape(network, form, spec)
    onnx_intake.refuse_large_tensors(network, name)

    inputs = onnx_proof.samples(spec)
    plan, expected = _plan(network, inputs, form, spec, options, cut.tensor, name)
    model = rebuild(network, plan, name)
    if form.takes_bytes:
        mean, std = normalisation_within(model.graph) or (spec.mean, spec.std)
        spec = replace(spec, mean=mean, std=std)
    assumed += _tell(cut, plan, options.pool, version(model))
    facts = {"preprocess": asdict(spec), "dimension": plan.dimension, "assumed": assumed, "licence": licence}
    result = model.SerializeToString(deterministic=True)
    onnx_proof.check_agreement(result, inputs, expected, spec.kind, name)
    return Converted(result, facts)


def _require_onnx() -> None:
    if find_spec("onnx") is None:
        raise MissingExtra("onnx (needed once, to make the backbone)", "train")


def _fill(options: BackboneOptions, found: BackboneOptions) -> BackboneOptions:
    return replace(options, **{key: getattr(found, key) for key in KEYS if getattr(options, key) is None})


def _sound(network: Any, options: BackboneOptions, beside: SoundHints | None, name: str) -> SoundHints | None:
    """Return what is said of the sounds that `network` hears; None where nothing says that it hears."""
    said = sound_hints.within({each.key: each.value for each in network.metadata_props}, name) or beside
    asked = options.window_s is not None or options.hop_s is not None
    return said or (SoundHints() if asked else None)


def _settle(
    network: Any, options: BackboneOptions, sound: SoundHints | None, name: str
) -> tuple[NetworkInput | SoundInput, InputSpec, list[str]]:
    if sound is None:
        form = read_input(network, name)
        return form, *settle_input(form, options, name)
    heard = read_sound_input(network, name)
    return heard, *sound_input.settle(heard.own, sound, options, name)


def _cut(network: Any, options: BackboneOptions, name: str) -> Cut:
    """Leave of `network` what leads to its features, in place, and return where that is."""
    lift_constants(network.graph)
    cut = find_cut(network, options.feature, options.pool, name)
    keep_what_leads_to(network, cut.tensor)
    onnx_intake.refuse_subgraphs(network, name)
    return cut


def _plan(
    network: Any,
    inputs: np.ndarray,
    form: NetworkInput | SoundInput,
    spec: InputSpec,
    options: BackboneOptions,
    tensor: str,
    name: str,
) -> tuple[Plan, np.ndarray]:
    """Return what is to become of `network`, and the features that it gives for `inputs` as it is now."""
    order, pool = options.channel_order or "rgb", options.pool or "avg"
    values = onnx_proof.run_network(network, onnx_proof.normalised(inputs, spec, order, form), form, name)
    onnx_output.check_shape(values.shape, len(inputs), pool, tensor, name)
    alone = isinstance(form, SoundInput) and form.alone
    last = alone or onnx_output.channels_last(network.graph, tensor, values.ndim)
    expected = onnx_output.pooled(values, pool, last)
    return Plan(form, spec, order, tensor, values.shape, pool, last, expected.shape[1]), expected


def _tell(cut: Cut, plan: Plan, pool: Pool | None, opset: int) -> list[str]:
    """Return what nobody asked for: where the features are, how they are pooled, which operators they need."""
    told = [cut.found] if cut.found else []
    shape = " × ".join(str(length) for length in plan.shape[1:])
    if len(plan.shape) > 2 and pool is None:
        told.append(f"the features, {shape}, pooled by {plan.pool}")
    if len(plan.shape) == 2 and pool in ("avg", "max"):
        told.append(f"nothing to pool by {pool}, as the features are a vector of {shape}")
    if opset != OPSET:
        told.append(f"operator set {opset}, not {OPSET}: an older onnxruntime may not read it")
    return told
