"""`tledge export --precision keras`: the trained whole as a Keras model file."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tledge import finetune, heads, modalities
from tledge.commands import pipeline, run_folder
from tledge.errors import TledgeError
from tledge.reading import read
from tledge.schema import Backbone, Dataset, Features, Head, PreprocessSpec, TrainOptions, VectorSpec


def write(
    document: dict[str, Any],
    run: Path,
    options: TrainOptions,
    dataset: Dataset,
    backbone: Backbone,
    head: Head,
    features: Features,
) -> tuple[bytes, np.ndarray]:
    """Return the .keras file of a run and the probabilities float32 [n, classes] that Keras gives with it.

    `features` are those of all samples; the n test samples among them go through Keras. The file takes pixels 0..255
    or vectors, float32. Raises BackboneError where Keras does not build the backbone, TledgeError for a head that is no
    network of layers.
    """
    if backbone.name == pipeline.NO_BACKBONE:
        raise TledgeError("Keras built no part of this model: it has no backbone.", "Export it as ONNX, in fp32.")
    if not isinstance(backbone.preprocess, PreprocessSpec | VectorSpec):
        noun = modalities.READERS[backbone.preprocess.kind].noun
        raise TledgeError(
            f"A Keras file takes pictures or vectors; what leads from {noun}s to the network is in the ONNX graph.",
            "Export it as ONNX.",
        )
    _, _, tested = pipeline.split(features, dataset)
    with TemporaryDirectory(prefix="tledge-") as place:
        folder, rows = Path(place), Path(place, "rows.npy")
        reader = modalities.reader(backbone.preprocess)
        np.save(rows, np.stack([read(sample, reader) for sample in tested.samples]))
        if document.get("fine_tuning"):
            path = run / run_folder.KERAS
            found = finetune.keras_model.try_out(path, rows, folder)
        else:
            layers, activation = heads.as_layers(head)
            name = pipeline.backbone_name(options, dataset)
            asked = pipeline.backbone_options(options)
            path, found = finetune.keras_model.write(name, asked, layers, activation, rows, folder)
        return path.read_bytes(), found
