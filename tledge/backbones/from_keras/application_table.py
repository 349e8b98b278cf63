"""The networks of keras.applications that are offered, what is known of each, and where Keras keeps its weights.

Parameters and multiply-adds were counted once, at the default size up to the averaged features; `python -m
benchmarks.applications` counts them again. Licences are those under which the weights were first published, as the
Keras documentation states them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Scaling = Literal["caffe", "tf", "torch", "inside"]


@dataclass(frozen=True, slots=True)
class Application:
    """One network of keras.applications, there called `called`.

    `scaling` names how it wants its pixels: as Keras' preprocess_input in that mode, or as they are (`inside`: the
    network scales them itself). The other fields are those of Recipe; `megabytes` is the size of the weights file.
    """

    name: str
    called: str
    input_size: int
    smallest_size: int
    dimension: int
    parameters: int
    macs: int
    scaling: Scaling
    licence: str
    megabytes: int


# fmt: off
_ROWS = (
    ("vgg16",              "VGG16",            224, 32,  512, 14_714_688, 15_346_630_656, "caffe",  "CC-BY-4.0",    59),
    ("vgg19",              "VGG19",            224, 32,  512, 20_024_384, 19_508_428_800, "caffe",  "CC-BY-4.0",    80),
    ("resnet50",           "ResNet50",         224, 32, 2048, 23_534_592,  3_855_925_248, "caffe",  "MIT",          95),
    ("resnet50_v2",        "ResNet50V2",       224, 32, 2048, 23_519_360,  3_480_207_360, "tf",     "Apache-2.0",   94),
    ("inception_v3",       "InceptionV3",      299, 75, 2048, 21_768_352,  5_711_168_096, "tf",     "Apache-2.0",   87),
    ("xception",           "Xception",         299, 71, 2048, 20_806_952,  8_355_355_496, "tf",     "MIT",          83),
    ("mobilenet",          "MobileNet",        224, 32, 1024,  3_206_976,    567_716_352, "tf",     "Apache-2.0",   13),
    ("mobilenet_v2",       "MobileNetV2",      224, 32, 1280,  2_223_872,    299_494_272, "tf",     "Apache-2.0",    9),
    ("mobilenet_v3_small", "MobileNetV3Small", 224, 32,  576,    927_008,     54_896_576, "inside", "Apache-2.0",    4),
    ("mobilenet_v3_large", "MobileNetV3Large", 224, 32,  960,  2_971_952,    214_080_960, "inside", "Apache-2.0",   12),
    ("efficientnet_b0",    "EfficientNetB0",   224, 32, 1280,  4_007_548,    384_534_752, "inside", "Apache-2.0",   16),
    ("efficientnet_b1",    "EfficientNetB1",   240, 32, 1280,  6_513_184,    685_522_832, "inside", "Apache-2.0",   26),
    ("efficientnet_b2",    "EfficientNetB2",   260, 32, 1408,  7_700_994,    992_153_872, "inside", "Apache-2.0",   31),
    ("efficientnet_b3",    "EfficientNetB3",   300, 32, 1536, 10_696_232,  1_825_605_392, "inside", "Apache-2.0",   43),
    ("efficientnet_v2_b0", "EfficientNetV2B0", 224, 32, 1280,  5_858_704,    716_806_176, "inside", "Apache-2.0",   24),
    ("densenet121",        "DenseNet121",      224, 32, 1024,  6_953_856,  2_833_137_664, "torch",  "BSD-3-Clause", 28),
    ("nasnet_mobile",      "NASNetMobile",     224, 32, 1056,  4_232_978,    562_582_816, "tf",     "Apache-2.0",   17),
    ("convnext_tiny",      "ConvNeXtTiny",     224, 32,  768, 27_820_128,  4_454_763_264, "inside", "MIT",         111),
)
# fmt: on
APPLICATIONS = tuple(Application(*row) for row in _ROWS)

_WEIGHTS_FILES = {
    "resnet50_v2": "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "mobilenet": "mobilenet_1_0_{}_tf_no_top.h5",
    "mobilenet_v2": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{}_no_top.h5",
    "mobilenet_v3_small": "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    "mobilenet_v3_large": "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
    "efficientnet_b0": "efficientnetb0_notop.h5",
    "efficientnet_b1": "efficientnetb1_notop.h5",
    "efficientnet_b2": "efficientnetb2_notop.h5",
    "efficientnet_b3": "efficientnetb3_notop.h5",
    "efficientnet_v2_b0": "efficientnetv2-b0_notop.h5",
    "nasnet_mobile": "nasnet_mobile_no_top.h5",
    "convnext_tiny": "convnext_tiny_notop.h5",
}
_MOST_WEIGHTS_FILES = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"
# These were published for several input sizes; for any other, Keras takes those of the last.
_WEIGHTS_SIZES = {"mobilenet": (128, 160, 192, 224), "mobilenet_v2": (96, 128, 160, 192, 224)}


def weights_path(application: Application, size: int | None = None) -> Path:
    """Return where Keras keeps the weights for `size` pixels a side, once it has downloaded them."""
    home = os.environ.get("KERAS_HOME")
    folder = (Path(home) if home else Path("~/.keras").expanduser()) / "models"
    return folder / weights_file(application, size)


def weights_file(application: Application, size: int | None = None) -> str:
    """Return how Keras calls the file with the weights for `size` pixels a side, by default the usual size."""
    name, sizes = application.name, _WEIGHTS_SIZES.get(application.name, (application.input_size,))
    return _WEIGHTS_FILES.get(name, _MOST_WEIGHTS_FILES.format(name)).format(size if size in sizes else sizes[-1])
