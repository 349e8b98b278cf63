"""Pieces of pictures through a backbone on a GPU: decoding, copies and the network overlap.

A lane is a batch in pinned memory of the host, its twin on the device, and the binding of both to the session. While
one lane's pictures are decoded by all cores, another's are copied and a third's go through the network; each lane has a
thread, which mostly waits. Graphs run in half precision where that applies (half.py). cuDNN chooses its algorithms by
timing them, so the last bits of features may differ between two runs on a GPU.

Not run on a GPU yet; the same code gives the plain path's features on a CPU (tests/test_features_on_gpu.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np

from tledge import engine, gpu, half, machine, modalities
from tledge.errors import DataError
from tledge.schema import Backbone, Sample

LANES = 4  # two in the hands of the decoders, so that they never wait, and two on the device
Load = Callable[[Sample], np.ndarray]


def fits(backbone: Backbone) -> bool:
    """Tell whether the rows of `backbone` have one shape, as the lanes need."""
    kind = backbone.preprocess.kind
    return modalities.READERS[kind].even


def precision_of(backbone: Backbone) -> str:
    """Return in which precision a GPU runs `backbone`, as it stands in the key of its features."""
    return f"fp16.{half.REVISION}" if half.applies(backbone) else backbone.precision


class Pipeline:
    """A session of `backbone` on `provider` that takes up to `size` samples at a time, from LANES threads at once.

    `load` makes a sample into a row, and raises DataError where it cannot. With `full`, a graph that could
    run in half precision does not. Close it after use. Raises ModelError and EngineError as `engine.open_session` does.
    """

    def __init__(self, backbone: Backbone, provider: str, size: int, load: Load, *, full: bool = False) -> None:
        graph = half.in_half(backbone.path) if half.applies(backbone) and not full else backbone.path
        name = f"Backbone {backbone.name}"
        self._session = engine.open_session(graph, provider=provider, threads=1, name=name, batch=size)
        self._load, blank = load, modalities.reader(backbone.preprocess).blank
        self._free: SimpleQueue[_Lane] = SimpleQueue()
        for _ in range(LANES):
            self._free.put(_Lane(self._session, backbone.preprocess.kind, np.stack([blank] * size)))
        self._decoders = ThreadPoolExecutor(machine.cores(), thread_name_prefix="decode")

    def run(self, samples: Sequence[Sample]) -> tuple[np.ndarray, list[str | None]]:
        """Return a row of features, float32, for each of `samples`, and for each why its row means nothing, or None."""
        lane = self._free.get()
        try:
            places = lane.batch[: len(samples)]
            reasons = list(self._decoders.map(self._place, samples, places))
            # Rows without a picture are zero whatever stood there before: no row may depend on how it was grouped.
            lane.batch[len(samples) :] = 0
            for place, reason in zip(places, reasons, strict=True):
                if reason is not None:
                    place[...] = 0
            return lane.run()[: len(samples)], reasons
        finally:
            self._free.put(lane)

    def close(self) -> None:
        """Let what is being decoded end, and nothing else begin."""
        self._decoders.shutdown(wait=True, cancel_futures=True)

    def _place(self, sample: Sample, place: np.ndarray) -> str | None:
        try:
            place[...] = self._load(sample)
        except DataError as error:
            return error.message
        return None


class _Lane:
    def __init__(self, session: Any, name: str, like: np.ndarray) -> None:
        from onnxruntime import OrtValue

        device = "cpu" if engine.active_provider(session) == "cpu" else "cuda"  # TensorRT's memory is CUDA's
        self.batch = gpu.pinned(like.shape, like.dtype)
        self._session, self._binding = session, session.io_binding()
        self._input = OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype.type, device)
        self._binding.bind_ortvalue_input(name, self._input)
        self._binding.bind_output("features", device)

    def run(self) -> np.ndarray:
        """Copy the batch to the device, run it, and copy the features back."""
        self._input.update_inplace(self.batch)
        self._session.run_with_iobinding(self._binding)
        return self._binding.copy_outputs_to_cpu()[0]
