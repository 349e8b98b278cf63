"""The peer of benchmarks.train: what the tutorials of Keras and TensorFlow have people type, and nothing else.

    python keras_frozen.py NETWORK.keras DATA EPOCHS

The network is frozen under one softmax layer, and `fit` sends every picture through it in every epoch, validation
included. DATA holds train/ and val/ or test/ with a folder per class. Prints {"accuracy", "validation_seconds"}: of the
last epoch, and of all of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}

import keras  # noqa: TID253 (a script of its own, that is about Keras)


class Validation(keras.callbacks.Callback):
    """Add up what validation takes, of which not every tutorial does as much."""

    seconds = 0.0

    def on_test_begin(self, logs: object = None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_test_end(self, logs: object = None) -> None:
        """Stop it."""
        self.seconds += time.perf_counter() - self.began


def main(network: str, data: str, epochs: str) -> None:
    """Load, freeze, train, validate."""
    base = keras.models.load_model(network)
    base.trainable = False
    size = base.input_shape[1:3]
    held_out = next(each for each in (Path(data, "val"), Path(data, "test")) if each.is_dir())
    train = keras.utils.image_dataset_from_directory(Path(data, "train"), image_size=size, verbose=False)
    val = keras.utils.image_dataset_from_directory(held_out, image_size=size, shuffle=False, verbose=False)
    classes = len(train.class_names)

    image = keras.Input((*size, 3))
    scaled = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(image)  # what the network was trained on
    features = base(scaled, training=False)
    model = keras.Model(image, keras.layers.Dense(classes, activation="softmax")(features))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    validation = Validation()
    found = model.fit(
        train.prefetch(2), validation_data=val.prefetch(2), epochs=int(epochs), verbose=0, callbacks=[validation]
    )
    print(json.dumps({"accuracy": found.history["val_accuracy"][-1], "validation_seconds": validation.seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
