"""Train the tail of a network with a new head on rows that lie in a file; inside of the process that runs Keras.

One cycle of the learning rate and AdamW: Smith 2018 (arXiv 1803.09820); Loshchilov and Hutter 2019 (arXiv 1711.05101).
Compiling with XLA is left out: on a CPU a step of EfficientNet-Lite0's upper six blocks took 8 ms a picture without it
and 150 ms with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from tledge.schema import InputSpec

_WARM_UP, _FIRST_RATE = 0.15, 0.04  # a part of all steps, and of the peak
_MOMENTUM = 0.9
_SPARED = ("bias", "gamma", "beta")


def from_input(keras: ModuleType, network: Any, spec: InputSpec) -> Any:
    """Return `network` with its normalisation in front, float32 → features.

    It takes pixels 0..255, vectors, or of sounds samples or a spectrogram.
    """
    axis, mean, variance = -1 if spec.kind == "image" else None, spec.mean, np.square(spec.std)
    raw = keras.Input(network.inputs[0].shape[1:], name=spec.kind)
    normalised = keras.layers.Normalization(axis, mean=mean, variance=variance, name="normalisation")(raw)
    return keras.Model(raw, network(normalised), name=f"{network.name}_from_{spec.kind}")


def with_layers(
    keras: ModuleType, network: Any, spec: InputSpec, layers: list[tuple[np.ndarray, np.ndarray]], activation: str
) -> Any:
    """Return `network`, its normalisation in front and dense `layers` behind, with relu between them."""
    front = from_input(keras, network, spec)
    last, current = len(layers) - 1, front.output
    for number, (weights, bias) in enumerate(layers):
        name, kind = ("probabilities", activation) if number == last else (f"hidden{number + 1}", "relu")
        layer = keras.layers.Dense(len(bias), activation=kind, name=name)
        current = layer(current)
        layer.set_weights([weights, bias])
    return keras.Model(front.input, current, name=f"{network.name}_trained")


def fit(
    keras: ModuleType,
    tail: Any,
    rows: np.ndarray,
    arrays: dict[str, np.ndarray],
    options: dict[str, Any],
    say: Callable[[dict[str, Any]], None],
) -> Any:
    """Train `tail`, a Keras model → [N, dimension], and return the Dense layer behind it that gives logits.

    `arrays` are those of tune.ROWS_FILE, `options` the fields of FineTuneOptions. `say` is told of every epoch.
    """
    trained = tail if options["train_batch_norm"] else with_still_batch_norm(keras, tail)
    head, model = _with_new_head(keras, trained, arrays, options)
    shown = _views(arrays["pictures"], np.flatnonzero(~arrays["validation"]), options["seed"])
    train = _batches(keras, rows, arrays, tail.input.shape[1:], options["batch_size"], shown)
    held_out = np.flatnonzero(arrays["validation"])
    check = _batches(keras, rows, arrays, tail.input.shape[1:], options["batch_size"], lambda _: held_out)
    cycle = optimizer(keras, options, len(train) * options["epochs"])
    loss = _loss(keras, arrays["several"], options["label_smoothing"])
    model.compile(cycle, loss, metrics=[_accuracy(keras, arrays)], jit_compile=False)
    model.fit(
        train,
        epochs=options["epochs"],
        validation_data=check if len(held_out) else None,
        callbacks=[_teller(keras, say)],
        shuffle=False,  # the batches come shuffled
        verbose=0,
    )
    return head


# ── What is trained ──────────────────────────────────────────────────────────────────────────────────────────────────


def with_still_batch_norm(keras: ModuleType, network: Any) -> Any:
    """Return `network` over the same layers, its batch normalisation in inference mode: weights train, statistics not.

    In Keras, a layer that is not `trainable` keeps its weights too, `training=False` is overruled when the network that
    holds the layer trains, and given to the whole network it would switch dropout off.
    """

    class InInferenceMode(keras.layers.Layer):
        def __init__(self, layer: Any) -> None:
            super().__init__(name=f"{layer.name}_in_inference_mode")
            self.layer = layer

        def call(self, tensor: Any, mask: Any = None) -> Any:
            return self.layer(tensor, training=False, mask=mask)

    def settled(layer: Any) -> Any:
        return InInferenceMode(layer) if isinstance(layer, keras.layers.BatchNormalization) else layer

    return keras.models.clone_model(network, clone_function=settled, recursive=True)


def _with_new_head(
    keras: ModuleType, tail: Any, arrays: dict[str, np.ndarray], options: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the new Dense layer, begun as `arrays` say, and the model that ends in it."""
    head = keras.layers.Dense(arrays["targets"].shape[1], name="head")
    head.build(tail.output.shape)
    if "weights" in arrays:
        head.set_weights([arrays["weights"], arrays["bias"]])
    kept = keras.layers.Dropout(options["dropout"], seed=options["seed"])(tail.output)
    return head, keras.Model(tail.input, head(kept))


def optimizer(keras: ModuleType, options: dict[str, Any], steps: int) -> Any:
    """Return the optimizer of FineTuneOptions' fields `options`, its learning rate one cycle over `steps`."""
    peak = options["learning_rate"]
    warm_up = max(1, round(_WARM_UP * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        _FIRST_RATE * peak, max(1, steps - warm_up), warmup_target=peak, warmup_steps=warm_up
    )
    decay = options["weight_decay"]
    if options["optimizer"] == "sgd":
        chosen = keras.optimizers.SGD(rate, momentum=_MOMENTUM, nesterov=True, weight_decay=decay)
    else:
        chosen = keras.optimizers.AdamW(rate, weight_decay=decay)
    chosen.exclude_from_weight_decay(var_names=list(_SPARED))
    return chosen


def _loss(keras: ModuleType, several: np.ndarray, smoothing: float) -> Any:
    kind = keras.losses.BinaryCrossentropy if several else keras.losses.CategoricalCrossentropy
    return kind(from_logits=True, label_smoothing=smoothing)


def _accuracy(keras: ModuleType, arrays: dict[str, np.ndarray]) -> Any:
    if arrays["several"]:
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    return keras.metrics.CategoricalAccuracy(name="accuracy")


# ── What it is shown ─────────────────────────────────────────────────────────────────────────────────────────────────


def _views(pictures: np.ndarray, rows: np.ndarray, seed: int) -> Callable[[int], np.ndarray]:
    """Return a function that gives the `rows` of an epoch: of each picture one of its views, in random order.

    The views of a picture follow one another from epoch to epoch, from a random one on.
    """
    rng = np.random.default_rng(seed)
    by_picture = rows[np.argsort(pictures[rows], kind="stable")]
    _, starts, counts = np.unique(pictures[by_picture], return_index=True, return_counts=True)
    first = rng.integers(0, counts)

    def of_epoch(number: int) -> np.ndarray:
        order = np.random.default_rng((seed, number)).permutation(len(starts))
        return by_picture[starts + (first + number) % counts][order]

    return of_epoch


def _batches(
    keras: ModuleType,
    rows: np.ndarray,
    arrays: dict[str, np.ndarray],
    shape: tuple[int, ...],
    size: int,
    shown: Callable[[int], np.ndarray],
) -> Any:
    """Return a Keras data set: the rows that `shown` gives for each epoch, float32 [n, *shape], targets and weights.

    Batches have at most `size` rows, and all as many, give or take one: a last one of a few rows would pull too hard.
    """
    targets, weights = arrays["targets"], _sample_weights(arrays)

    class Batches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__(workers=1)
            self.epoch = 0
            self.order = shown(0)

        def __len__(self) -> int:
            return -(-len(self.order) // size)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            batch = np.array_split(self.order, len(self))[index]
            x = rows[batch].reshape(-1, *shape).astype(np.float32)
            return x, targets[batch], weights[batch]

        def on_epoch_end(self) -> None:
            self.epoch += 1
            self.order = shown(self.epoch)

    return Batches()


def _sample_weights(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the weight of each row in the loss, 1 on average: that of its class, or the mean of its labels'."""
    targets = arrays["targets"]
    weights = (targets @ arrays["class_weights"]) / np.maximum(targets.sum(axis=1), 1)
    weights[targets.sum(axis=1) == 0] = 1.0
    return (weights / weights.mean()).astype(np.float32)


def _teller(keras: ModuleType, say: Callable[[dict[str, Any]], None]) -> Any:
    start = time.perf_counter()

    def tell(epoch: int, logs: dict[str, float]) -> None:
        say(
            {
                "number": epoch + 1,
                "loss": logs["loss"],
                "accuracy": logs["accuracy"],
                "validation_accuracy": logs.get("val_accuracy"),
                "seconds": time.perf_counter() - start,
            }
        )

    return keras.callbacks.LambdaCallback(on_epoch_end=tell)
