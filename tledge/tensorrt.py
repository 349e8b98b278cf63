"""TensorRT under onnxruntime: in which precision it computes, and where the engines that it builds are kept.

Building an engine takes minutes. onnxruntime names the file of one by the graph's nodes, not by its weights or shapes
(onnxruntime issues 6455, 32254): two models of one architecture in one folder would run the weights of the first. Hence
a folder for each model file and GPU. What was measured for a layer serves all models of this machine (timing cache).

Not run on a GPU yet. That onnxruntime-gpu 1.31 takes these options by these names, with these values, was read from its
binaries. int8 is explicit (QDQ): no calibration table, which TensorRT 11 no longer takes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import machine, places
from tledge.schema import Precision

FOLDER = "tensorrt"
_LOG = logging.getLogger("tledge")
_DIGEST_HEX = 24


@dataclass(frozen=True, slots=True)
class Engines:
    """Where the engines of one model are kept (`folder`), and the provider options that say so."""

    folder: Path
    options: dict[str, str]

    def built(self) -> bool:
        """Tell whether an engine lies there."""
        return any(self.folder.glob("*.engine"))


def engines(model: bytes, precision: Precision, onnxruntime_version: str) -> Engines:
    """Return where the engines of the serialized `model` are kept, in folders that exist then.

    TensorRT may compute an fp16 or int8 model in half precision wherever that is faster. Raises OutputError when the
    cache folder cannot be written.
    """
    gpu = f"{machine.gpus()} onnxruntime {onnxruntime_version}"
    key = hashlib.sha256(hashlib.sha256(model).digest() + gpu.encode()).hexdigest()[:_DIGEST_HEX]
    timings = f"timings-{hashlib.sha256(gpu.encode()).hexdigest()[:_DIGEST_HEX]}"
    root = places.cache_dir() / FOLDER
    for folder in (root / key, root / timings):
        with places.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # engines may lie where nothing can be written
            os.utime(folder)
    options = {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(root / key),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(root / timings),
        "trt_fp16_enable": str(precision in ("fp16", "int8")),
        "trt_int8_enable": str(precision == "int8"),
    }
    return Engines(root / key, options)


def folders(cache_dir: Path) -> list[Path]:
    """Return the folders of engines and of timings in `cache_dir`; the time of each says when it was last used."""
    return [folder for folder in Path(cache_dir, FOLDER).glob("*") if folder.is_dir()]


@contextmanager
def announced(kept: Engines, what: str) -> Iterator[None]:
    """Say before that TensorRT builds an engine for `what`, and after how long that took; nothing when it has one."""
    if kept.built():
        yield
        return
    _LOG.warning("TensorRT builds an engine for %s. That takes minutes; it is kept: the next start is quick.", what)
    start = time.perf_counter()
    yield
    _LOG.warning("TensorRT's engine was built in %.0f s and is kept in %s.", time.perf_counter() - start, kept.folder)


def run_once(session: Any, batch: int) -> None:
    """Run `session` on `batch` samples of zeros: for a graph of any batch the engine is only built at its first run."""
    import numpy as np

    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    feed = {
        each.name: np.zeros([size if isinstance(size, int) else batch for size in each.shape], kinds[each.type])
        for each in session.get_inputs()
    }
    session.run(None, feed)
