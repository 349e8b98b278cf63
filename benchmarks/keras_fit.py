"""The peer of benchmarks.finetune: frozen layers below, a new head above, and Keras' own `fit` over the pictures.

    python keras_fit.py SPLIT BACKBONE LAYER EPOCHS SEED OUT

SPLIT holds train/ and test/ with a folder per class. Layers from the first whose name begins with LAYER train; batch
normalisation, optimizer, rate, loss and dropout are as in tledge.finetune. Prints {"accuracy"}, saves OUT.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}

import keras  # noqa: TID253 (a script of its own, that is about Keras)

from tledge.backbones.efficientnet_lite import network
from tledge.backbones.keras_families import RECIPES
from tledge.finetune import FineTuneOptions, training


def main(split: str, backbone: str, layer: str, epochs: str, seed: str, out: str) -> None:
    """Train, test, save."""
    options = {**asdict(FineTuneOptions(epochs=int(epochs), seed=int(seed))), "learning_rate": 1e-3}
    keras.utils.set_random_seed(options["seed"])
    size = RECIPES[backbone].input_size
    base, spec, _ = network(keras, backbone, size)
    first = next(place for place, each in enumerate(base.layers) if each.name.startswith(layer))
    for place, each in enumerate(base.layers):
        each.trainable = place >= first
    train = _pictures(split, "train", size, options, shuffle=True)
    test = _pictures(split, "test", size, options, shuffle=False)
    image = keras.Input((size, size, 3))
    scaled = keras.layers.Normalization(mean=spec.mean, variance=[each**2 for each in spec.std])(image)
    head = keras.layers.Dense(2)
    kept = keras.layers.Dropout(options["dropout"])(training.with_still_batch_norm(keras, base)(scaled))
    model = keras.Model(image, head(kept))
    optimizer = training.optimizer(keras, options, len(train) * options["epochs"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=options["label_smoothing"])
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    model.fit(train, epochs=options["epochs"], verbose=0)
    _, accuracy = model.evaluate(test, verbose=0)
    keras.Model(image, head(base(scaled))).save(out)
    print(json.dumps({"accuracy": accuracy}))


def _pictures(split: str, part: str, size: int, options: dict, shuffle: bool):
    """Return batches of the pictures as Keras' own guides make them: decoded and resized anew in every epoch."""
    found = keras.utils.image_dataset_from_directory(
        Path(split, part),
        label_mode="categorical",
        image_size=(size, size),
        batch_size=options["batch_size"],
        shuffle=shuffle,
        seed=options["seed"],
        verbose=False,
    )
    return found.prefetch(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
