"""Backbones that were converted once and then kept, each with the facts that the conversion brought to light."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import documents
from tledge.backbones import kept_files
from tledge.backbones.conversion import Converted
from tledge.schema import InputSpec, PreprocessSpec, SoundSpec, VectorSpec

_SPECS = {"image": PreprocessSpec, "vector": VectorSpec, "audio": SoundSpec}


@dataclass(frozen=True, slots=True)
class KeptBackbone:
    """A converted file, its SHA-256 in hex, what it takes, the length of its features, and further facts."""

    path: Path
    digest: str
    preprocess: InputSpec
    dimension: int
    facts: dict[str, Any]


def find_or_convert(cache_dir: Path, stem: str, convert: Callable[[], Converted]) -> KeptBackbone:
    """Return what is kept as `stem` in `cache_dir`/backbones; `convert` makes it where nothing undamaged is kept.

    `stem` must tell apart all that gives other bytes; conversion.key is made for that. Raises OutputError when the
    folder cannot be written to, and what `convert` raises.
    """
    folder = Path(cache_dir, "backbones")
    model, facts = kept_files.find(folder, stem), kept_files.find(folder, stem, ".json")
    if model is None or facts is None:
        made = convert()
        plain = json.dumps(made.facts, indent=2, sort_keys=True) + "\n"
        facts = kept_files.keep(folder, stem, plain.encode(), ".json")
        model = kept_files.keep(folder, stem, made.data)
    return _describe(model, json.loads(facts.path.read_bytes()))


def _describe(model: kept_files.KeptFile, facts: dict[str, Any]) -> KeptBackbone:
    values = facts["preprocess"]
    spec = documents.typed(_SPECS[values["kind"]], values)
    return KeptBackbone(model.path, model.digest, spec, facts["dimension"], facts)
