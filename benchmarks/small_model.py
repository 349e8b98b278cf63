"""A model of real size trained on a few pictures: what a model costs does not depend on how good it is."""

from __future__ import annotations

from pathlib import Path

from benchmarks import datasets, processes

PICTURES = 20  # of each class


def int8(cache: Path, folder: Path) -> Path:
    """Return EfficientNet-Lite0 with a head as an int8 file in `folder`, made with the cache folder `cache`."""
    processes.say("training a small model")
    pictures, run, model = datasets.elpv(folder / "elpv", PICTURES), folder / "run", folder / "model.onnx"
    processes.run(processes.tledge("train", pictures, "--out", run, "--json"), cache)
    processes.run(processes.tledge("export", run, "--out", model, "--min-agreement", "0", "--json"), cache)
    return model
