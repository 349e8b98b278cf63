"""Claim: all networks of keras.applications that are offered convert, and agree with Keras to a relative 1e-4.

    python -m benchmarks.applications [--json] [--size PIXELS] [NAME…]

Each network gets random weights, biases and statistics of normalisation. Keras computes the features of pictures that
its own preprocess_input prepared; the weights go through a file into `backbones.load`, as a user's would, and
onnxruntime computes the features of the same raw pictures. The error is the largest difference over the largest
feature. Where the size is that of the table, the multiply-adds of the graph are counted as well. At full size it takes
some twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, processes, script
from tledge import backbones
from tledge.backbones.from_keras.application_table import APPLICATIONS, Application
from tledge.backbones.passes import macs
from tledge.errors import TledgeError
from tledge.schema import Backbone, BackboneOptions

ERROR_BAR_MILLIONTHS = 100
_KERAS = """
import os, sys
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "KERAS_BACKEND": "tensorflow"}
import keras, numpy as np
called, size, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
keras.utils.set_random_seed(0)
make = getattr(keras.applications, called)
model = make(input_shape=(size, size, 3), include_top=False, pooling="avg", weights=None)
rng = np.random.default_rng(1)
for weight in model.weights:
    if len(weight.shape) == 1:
        weight.assign(weight + rng.uniform(0, 0.5, weight.shape))
for layer in model.layers:
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()
model.save_weights(folder + "/their.weights.h5")
pictures = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
prepared = sys.modules[make.__module__].preprocess_input(pictures.astype(np.float32))
np.savez(folder + "/expected.npz", pictures=pictures, features=np.asarray(model(prepared, training=False)))
"""


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims for how many convert, how well they agree, and what they compute."""
    chosen = [each for each in APPLICATIONS if not arguments.names or each.name in arguments.names]
    found = [_try(application, arguments.size) for application in chosen]
    errors, surpluses = [each[0] for each in found if each], [each[1] for each in found if each and each[1] is not None]
    text = f"networks that convert, of {len(chosen)}: at least {len(chosen)}"
    yield measure.claim(text, (len(errors),) * 3, at_least=len(chosen))
    if errors:
        text = f"relative error against Keras in millionths, worst of {len(errors)}: at most {ERROR_BAR_MILLIONTHS}"
        yield measure.claim(text, measure.spread([1e6 * each for each in errors], max), at_most=ERROR_BAR_MILLIONTHS)
    if surpluses:
        text = f"multiply-adds of the graph beside those of the table, worst of {len(surpluses)}: at most 0"
        yield measure.claim(text, measure.spread(map(abs, surpluses), max), at_most=0)


def _try(application: Application, size: int | None) -> tuple[float, int | None] | None:
    """Return the relative error of one network, and its surplus of multiply-adds; None when it does not convert."""
    size = max(size or application.input_size, application.smallest_size)
    with processes.workspace() as folder:
        processes.run(processes.python(_KERAS, application.called, str(size), folder), folder)
        try:
            options = BackboneOptions(input_size=size, weights=str(folder / "their.weights.h5"))
            backbone = backbones.load(application.name, folder, options)
        except TledgeError as error:
            processes.say(f"{application.name}: {error}")
            return None
        error = _error(backbone, folder)
        surplus = _count(backbone) - application.macs if size == application.input_size else None
    processes.say(f"{application.name} at {size} px: error {error:.1e}, surplus of multiply-adds {surplus}")
    return error, surplus


def _error(backbone: Backbone, folder: Path) -> float:
    import onnxruntime

    kept = np.load(folder / "expected.npz")
    session = onnxruntime.InferenceSession(str(backbone.path), providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {"image": kept["pictures"]})
    return float(np.abs(features - kept["features"]).max() / np.abs(kept["features"]).max())


def _count(backbone: Backbone) -> int:
    import onnx

    return macs.count(onnx.load(backbone.path))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the input; each network's own by default")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks, all by default")


if __name__ == "__main__":
    script.main("applications", __doc__, claims, _add_options)
