"""What fine-tuning will train and what it will need, said before anything is computed; and the trunk below the cut."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tledge.backbones import kept_files, sound_input
from tledge.backbones.conversion import FACTS_FILE, MODEL_FILE, Converted
from tledge.backbones.kept_backbones import find_or_convert
from tledge.errors import BackboneError, TledgeError
from tledge.finetune import apart
from tledge.finetune.source import Source, safe, source
from tledge.schema import Backbone, BackboneOptions, InputSpec, SoundSpec

ALL = "all"
OUTLINE_FILE = "outline.json"
_HALF_BYTES = 2
_NAMES_TOLD = 6
_WAYS = "Give a number of layers from the top, the name of the first layer that trains, or all."
_DEFAULTS = BackboneOptions()


@dataclass(frozen=True, slots=True)
class Plan:
    """What trains of a network, and on what.

    `cut` names the operation whose output feeds the layers that train; None: the whole network trains, on its own
    input. `shape` is that of one sample there, and `layers` are the layers with weights above it, from the cut up,
    without batch normalisation. `bytes_per_sample` is what one sample or view takes there: halves at a cut, bytes of a
    picture or floats of a vector at the input. `note` says where the plan is not quite what was asked for.
    """

    source: Source
    asked: str
    cut: str | None
    shape: tuple[int, ...]
    layers: tuple[str, ...]
    bytes_per_sample: int
    note: str = ""

    @property
    def length(self) -> int:
        """How many numbers one sample has at the cut."""
        return math.prod(self.shape)

    def network_input(self, rows: np.ndarray, spec: InputSpec) -> np.ndarray:
        """Return `rows` [N, …], as a backbone with `spec` takes them, as the network itself does.

        They differ for sounds: the backbone's graph begins with what leads from samples to the network, of which only
        the normalisation is done in training too.
        """
        if not isinstance(spec, SoundSpec):
            return rows
        return sound_input.compute(rows, replace(spec, mean=0.0, std=1.0), sound_input.axes(self.shape, spec) or "s")


def check(unfreeze: str, backbone: str, options: BackboneOptions = _DEFAULTS) -> None:
    """Raise TledgeError unless `unfreeze` is all, a number from 1 up or maybe a layer, and Keras builds `backbone`."""
    if not unfreeze or (unfreeze.lstrip("-").isdecimal() and int(unfreeze) < 1):
        raise TledgeError(f"The number of layers to unfreeze must be 1 or more, but is {unfreeze or 'empty'}.", _WAYS)
    source(backbone, options)


def plan(
    backbone: str,
    unfreeze: str,
    options: BackboneOptions,
    cache_dir: Path,
    *,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Return what `unfreeze` means for the network `backbone`.

    A number counts layers with weights from the top, batch normalisation not among them; a name is that of the first
    layer that trains, or the beginning of its name, such as a block's; all is the whole network. Where no cut lies
    right below the first layer, inside of a residual block, the nearest below is taken and the layers between train
    too. The network is looked at once, which takes some seconds, and the outline kept in `cache_dir`/backbones.
    Raises BackboneError and MissingExtra.
    """
    check(unfreeze, backbone, options)
    wanted = source(backbone, options)
    outline = _outline(wanted, Path(cache_dir), on_stage)
    first = 0 if unfreeze == ALL else _first_place(outline, unfreeze, wanted.name)
    below = [cut for cut in outline["cuts"] if cut[1] < first]
    if not below:
        return _whole(wanted, unfreeze, outline)
    cut, place, shape = below[-1]
    names = tuple(layer for layer, at in outline["layers"] if at > place)
    lower = outline["layers"][-len(names)][1] < first
    note = f"{names[0]} and up train: the network cannot be cut higher" if lower else ""
    return Plan(wanted, unfreeze, cut, tuple(shape), names, math.prod(shape) * _HALF_BYTES, note)


def _whole(wanted: Source, unfreeze: str, outline: dict[str, Any]) -> Plan:
    shape = tuple(outline["input"])
    size = math.prod(shape) * (1 if len(shape) == 3 else np.dtype(np.float32).itemsize)
    note = "" if unfreeze == ALL else f"the whole network trains: it cannot be cut where {unfreeze} says"
    return Plan(wanted, unfreeze, None, shape, tuple(layer for layer, _ in outline["layers"]), size, note)


def trunk(plan: Plan, cache_dir: Path, on_stage: Callable[[str], None] = lambda _: None) -> Backbone:
    """Return the network up to the cut as a backbone, converted once and then kept in `cache_dir`/backbones.

    Its features are the activations at the cut, height by width by channel in one row: float32 [N, plan.length].
    Raises BackboneError, MissingExtra, OutputError.
    """
    if plan.cut is None:
        raise ValueError("a plan that trains the whole network has no trunk")

    def convert() -> Converted:
        on_stage(f"converting {plan.source.name} up to {plan.cut} to ONNX, once on this machine")
        return _converted({"task": "trunk", "cut": plan.cut, **order(plan.source)})

    kept = find_or_convert(Path(cache_dir), f"{plan.source.stem}-{safe(plan.cut)}", convert)
    name = f"{plan.source.name} up to {plan.cut}"
    return Backbone(name, kept.path, kept.preprocess, kept.dimension, kept.digest, licence=plan.source.licence)


def order(wanted: Source) -> dict[str, Any]:
    """Return the part of an order that says which network to build."""
    return {"module": wanted.module, "arguments": wanted.arguments}


def _outline(wanted: Source, cache_dir: Path, on_stage: Callable[[str], None]) -> dict[str, Any]:
    folder, stem = cache_dir / "backbones", f"{wanted.stem}-outline"
    kept = kept_files.find(folder, stem, ".json")
    if kept is None:
        on_stage(f"looking where {wanted.name} can be cut, once on this machine")
        with TemporaryDirectory(prefix="tledge-") as place:
            apart.run(Path(place), {"task": "outline", **order(wanted)})
            kept = kept_files.keep(folder, stem, Path(place, OUTLINE_FILE).read_bytes(), ".json")
    return json.loads(kept.path.read_bytes())


def _converted(order: dict[str, Any]) -> Converted:
    with TemporaryDirectory(prefix="tledge-") as place:
        apart.run(Path(place), order)
        return Converted(Path(place, MODEL_FILE).read_bytes(), json.loads(Path(place, FACTS_FILE).read_text()))


def _first_place(outline: dict[str, Any], unfreeze: str, name: str) -> int:
    """Return the place of the first layer that is asked to train."""
    layers = outline["layers"]
    if unfreeze.isdecimal():
        if int(unfreeze) > len(layers):
            raise BackboneError(
                f"{name} has {len(layers)} layers with weights, but {unfreeze} are to be unfrozen.", "Use all instead."
            )
        return layers[-int(unfreeze)][1]
    for exact in (True, False):
        for layer, place in layers:
            if layer == unfreeze or (not exact and layer.startswith((f"{unfreeze}.", f"{unfreeze}_"))):
                return place
    near = difflib.get_close_matches(unfreeze, [layer for layer, _ in layers], n=_NAMES_TOLD, cutoff=0.0)
    raise BackboneError(
        f"{name} has no layer with weights called {unfreeze!r}.", f"There are, among others: {', '.join(near)}."
    )
