"""What a user may ask of a training run or an export, as the command line and run.json have it."""

from __future__ import annotations

from dataclasses import dataclass

from tledge.schema.heads import ClassWeight, Optimizer
from tledge.schema.networks import ChannelOrder, GraphInput, Pool, SoundFit, Target


@dataclass(frozen=True, slots=True)
class Budgets:
    """How far an exported model may be from the run's float model on the test samples; None sets no bound.

    `min_agreement` is the least share of equal decisions, `max_drop` the largest fall of accuracy in points,
    `max_error_ratio` the largest number of errors as a multiple of those of the float model, `max_class_drop` the
    largest fall of any class's recall in points. `max_bytes` bounds the file, `max_latency_ms` the median latency of
    one sample on this machine's provider.
    """

    min_agreement: float = 0.95
    max_drop: float | None = None
    max_error_ratio: float | None = None
    max_class_drop: float | None = None
    max_bytes: int | None = None
    max_latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Packaging:
    """What form a model file has.

    `target` is where it will run, `input` what the graph takes: tensor, uint8 pixels at the model's size, or image,
    pictures of any size. `batch` fixes the number of samples that are run at once; None leaves it open.
    """

    target: Target = "any"
    input: GraphInput = "tensor"
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """How a backbone becomes int8.

    `calibration` is minmax, percentile, entropy, mse, or auto for the one whose features err least. `per_tensor` gives
    all weights of a layer one scale, for NPUs that need it. `reduce_range` leaves weights seven bits, for x86
    processors without VNNI; None does so where this machine is one.
    """

    calibration: str = "auto"
    per_tensor: bool = False
    reduce_range: bool | None = None


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of `tledge train`; None leaves the choice to what it is about.

    `backbone` is a name, the path of a Keras or ONNX file, or none for vectors as they are. `group_by` is a regular
    expression on paths or a column's name. `folds` adds a cross-validation. `augment` and `views` say which augmented
    views of each training picture are added, and how many. `unfreeze` fine-tunes from there up. `window_s`, `hop_s`
    and `fit` are for sounds. The rest stands as in BackboneOptions and HeadOptions.
    """

    backbone: str | None = None
    head: str | None = None
    test_fraction: float = 0.2
    seed: int = 0
    strict: bool = False
    provider: str = "auto"
    group_by: str | None = None
    folds: int | None = None
    augment: str | None = None
    views: int | None = None
    unfreeze: str | None = None
    train_batch_norm: bool = False
    input_size: int | None = None
    pool: Pool | None = None
    weights: str | None = None
    feature: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: ChannelOrder | None = None
    class_weight: ClassWeight = "none"
    hidden: tuple[int, ...] | None = None
    dropout: float | None = None
    optimizer: Optimizer | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    positive: str | None = None
    window_s: float | None = None
    hop_s: float | None = None
    fit: SoundFit | None = None
