"""What `benchmarks.precision` works with: its data sets, its backbones, and the folder where both are."""

from __future__ import annotations

import argparse
import functools
from dataclasses import asdict
from pathlib import Path

from benchmarks import datasets, processes
from tledge import backbones, data
from tledge.schema import Backbone, BackboneOptions, Dataset

DATA = ("elpv", "flowers", "fashion")
TEST_FRACTION = 0.25
SMALL_PX, KERAS_PX = 128, 96  # Fashion-MNIST has 28 × 28 pixels; random weights are good at no size
LITE = tuple(f"efficientnet_lite{number}" for number in range(3))
# What their authors normalised by; see the pages of the ncnn and STM32 model zoos.
FOREIGN = {
    "mobilenet_v2_0.35_128.onnx": BackboneOptions(mean=(127.5,), std=(127.5,)),
    "squeezenet11.onnx": BackboneOptions(mean=(104.0, 117.0, 123.0), std=(1.0,), channel_order="bgr"),
}
KERAS = {name: BackboneOptions(input_size=KERAS_PX, weights="none") for name in ("mobilenet_v2", "efficientnet_b0")}


class Shelf:
    """Where the benchmark's data sets, backbones, graphs and features are: `folder`, and in it the cache `cache`."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder, self.cache, self._arguments = folder, folder / "cache", arguments
        self.cache.mkdir(parents=True, exist_ok=True)
        sources = {"elpv": Path(), "flowers": arguments.flowers, "fashion": arguments.fashion_mnist}
        self.data = tuple(name for name in DATA if sources[name] and name in arguments.data)
        names = (*LITE, *(FOREIGN if arguments.foreign else ()), *KERAS)
        self.backbones = tuple(name for name in names if not arguments.backbones or name in arguments.backbones)
        for name in sorted({name for name in arguments.data if name not in self.data}):
            processes.say(f"{name} is left out: its folder was not given.")
        if not arguments.foreign:
            processes.say("The ONNX files of others are left out: their folder was not given.")

    def path(self, name: str, part: int = 0) -> Path:
        """Return where data set `name` is; parts of Fashion-MNIST share no picture, those of others are split anew."""
        if name == "elpv":
            return datasets.elpv(self.folder / "elpv")
        if name == "flowers":
            return datasets.flowers(self._arguments.flowers.resolve(), self.folder / "flowers")
        return datasets.fashion_mnist(self._arguments.fashion_mnist, self.folder / f"fashion-{part}.npz", part)

    @functools.lru_cache(maxsize=4)  # noqa: B019  there is one shelf
    def dataset(self, name: str, part: int = 0) -> Dataset:
        """Return data set `name`, split for the `part`-th time."""
        return data.load(self.path(name, part), test_fraction=TEST_FRACTION, seed=part)

    def options(self, backbone: str, dataset: str) -> tuple[str, BackboneOptions]:
        """Return what to load for `backbone`: a name or a path, and its options."""
        if backbone in FOREIGN:
            return str(self._arguments.foreign.resolve() / backbone), FOREIGN[backbone]
        small = BackboneOptions(input_size=SMALL_PX) if dataset == "fashion" else BackboneOptions()
        return backbone, KERAS.get(backbone, small)

    def words(self, backbone: str, dataset: str) -> list[str]:
        """Return the same as options of `tledge train`."""
        path, options = self.options(backbone, dataset)
        words = ["--backbone", path]
        for name, value in asdict(options).items():
            if value is not None:
                plain = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words += [f"--{name.replace('_', '-')}", plain]
        return words

    @functools.lru_cache  # noqa: B019
    def backbone(self, name: str, dataset: str) -> Backbone:
        """Return backbone `name` as it is used for `dataset`."""
        path, options = self.options(name, dataset)
        return backbones.load(path, self.cache, options, on_stage=processes.say)
