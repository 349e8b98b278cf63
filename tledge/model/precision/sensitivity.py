"""Which layers an int8 graph loses its accuracy in: the error of the features when one layer alone is int8.

The other way round, all layers int8 but one, says little: where several layers are bad, the error of the rest hides
what each would gain. On efficientnet_lite0 with one scale per layer, eight layers put back in the order of errors alone
left 0.007 of the squared features, in the order of errors left out 0.041, in plain int8 0.152 (solar cells).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tledge.backbones import kept_files
from tledge.backbones.passes import macs
from tledge.documents import typed
from tledge.model.precision import calibration_pictures, feature_error, layers
from tledge.model.precision.quantize import Recipe, Rounding, float_graph, key, quantized
from tledge.schema import Backbone, LayerSensitivity, Sample

_REVISION = 1
_PICTURES = 16  # of 8 and of 32, the ten worst of 49 layers were the same
_SUFFIX = ".json"


def sensitivities(
    backbone: Backbone,
    samples: Sequence[Sample],
    cache_dir: Path,
    recipe: Recipe,
    rounding: Rounding,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[LayerSensitivity, ...]:
    """Return what each layer of `backbone` costs in int8, the worst first; of equals the one of the fewest MACs.

    The graphs are made by `recipe`, apart from its float layers: ranges come from one calibration on the training
    `samples`, errors from up to 16 others. Kept in `cache_dir`/backbones like the int8 graphs, and measured again where
    that file was damaged. `on_progress` is told how many layers are done, and of how many. Raises what `quantize` does.
    """
    seen, others = calibration_pictures.part(samples)
    judged, folder = others[:: -(-len(others) // _PICTURES)], cache_dir / "backbones"
    stem = f"{backbone.name}-sensitivity-{_key(backbone, seen, judged, recipe, rounding)}"
    kept = kept_files.find(folder, stem, _SUFFIX)
    if kept:
        return tuple(typed(LayerSensitivity, row) for row in json.loads(kept.path.read_bytes()))
    found = _measured(backbone, seen, judged, recipe, rounding, on_progress or (lambda done, total: None))
    rows = [asdict(each) for each in found]
    kept_files.keep(folder, stem, json.dumps(rows, indent=1).encode(), _SUFFIX)
    return found


def _key(
    backbone: Backbone, seen: Sequence[Sample], judged: Sequence[Sample], recipe: Recipe, rounding: Rounding
) -> str:
    decides = [_REVISION, key(backbone, seen, recipe, rounding), *(each.digest for each in judged)]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def _measured(
    backbone: Backbone,
    seen: Sequence[Sample],
    judged: Sequence[Sample],
    recipe: Recipe,
    rounding: Rounding,
    on_progress: Callable[[int, int], None],
) -> tuple[LayerSensitivity, ...]:
    nodes = _layers(backbone)
    names = [name for name, _, _ in nodes]
    recipes = [recipe._replace(float_layers=tuple(sorted({*names} - {name}))) for name in names]
    batches = list(calibration_pictures.batches(judged, backbone))
    exact = feature_error.features(backbone.path, backbone.name, batches)
    found = []
    for (name, operator, count), (_, graph) in zip(nodes, quantized(backbone, seen, recipes, rounding), strict=True):
        error = feature_error.relative(feature_error.features(graph, backbone.name, batches), exact)
        found.append(LayerSensitivity(name, operator, error, count))
        on_progress(len(found), len(nodes))
    return tuple(sorted(found, key=lambda each: (-each.error, each.macs)))


def _layers(backbone: Backbone) -> list[tuple[str, str, int]]:
    """Return name, operator and MACs of each layer; no MACs at all where the shapes of the graph do not tell."""
    model = float_graph(backbone)
    try:
        counts = macs.of_each(model)
    except ValueError:
        counts = [0] * len(model.graph.node)
    return [
        (node.name, node.op_type, count)
        for node, count in zip(model.graph.node, counts, strict=True)
        if node.op_type in layers.LAYERS
    ]
