"""One calibrator in a process of its own: what `benchmarks.calibrate` starts, and nothing to start by hand.

    PYTHON calibrators.py CALIBRATOR METHOD MODEL PICTURES COUNT

MODEL is a float graph with inferred shapes, PICTURES the bytes of uint8 pictures in its size. Prints one JSON document:
seconds from the file to the ranges (imports left out), peak_bytes of the process, and ranges {tensor: [low, high]}. All
but `tledge` run without this project.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Ranges = dict[str, tuple[float, float]]
OPS = ["Conv", "Gemm", "MatMul", "Add", "Clip", "Relu", "MaxPool", "Concat"]  # all that EfficientNet-Lite0 has
BATCH = 4
BINS = 2048


class Pictures:
    """Pictures in batches of four, each read when it is asked for. onnxruntime's calibrators call the rest."""

    def __init__(self, file: Path, count: int, name: str, shape: tuple[int, ...]) -> None:
        self._file, self._name, self._shape, self._bytes = file, name, shape, int(np.prod(shape))
        self.set_range(0, count // BATCH)
        self._length = count // BATCH

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while (batch := self.get_next()) is not None:
            yield batch

    def __len__(self) -> int:
        return self._length

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with batch `start_index`, and end before `end_index`."""
        self._next, self._end = start_index, end_index

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, None after the last."""
        if self._next == self._end:
            return None
        size = BATCH * self._bytes
        rows = np.fromfile(self._file, np.uint8, size, offset=self._next * size)
        self._next += 1
        return {self._name: rows.reshape(BATCH, *self._shape)}


def tledge(method: str, file: Path, pictures: Pictures) -> Callable[[], Ranges]:
    """Calibrate as `tledge export` does."""
    import onnx

    from tledge import engine
    from tledge.model.precision.calibrate import calibrate, choose_ranges

    engine.check("cpu")

    def run() -> Ranges:
        model = onnx.load(file)
        seen = calibrate(model, OPS, [], pictures).observations
        found = choose_ranges(model, OPS, seen, method)
        return {name: found[name] for name in seen}

    return run


def onnxruntime(method: str, file: Path, pictures: Pictures, stride: int | None = None) -> Callable[[], Ranges]:
    """Calibrate as `quantize_static` does; with `stride`, that many batches at a time (CalibStridedMinMax)."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    chosen, options = {
        "minmax": (CalibrationMethod.MinMax, {}),
        "percentile": (CalibrationMethod.Percentile, {"symmetric": False, "num_bins": BINS}),
        "entropy": (CalibrationMethod.Entropy, {"num_bins": BINS}),
        "entropy of 128 bins": (CalibrationMethod.Entropy, {}),
    }[method]

    def run() -> Ranges:
        augmented = str(file.with_name("augmented.onnx"))
        calibrator = create_calibrator(file, OPS, augmented, chosen, extra_options=options)
        for start in range(0, len(pictures), stride or len(pictures)):
            pictures.set_range(start, min(start + (stride or len(pictures)), len(pictures)))
            calibrator.collect_data(pictures)
        found = calibrator.compute_data().items()
        return {name: tuple(float(np.squeeze(end)) for end in each.range_value) for name, each in found}

    return run


def strided(method: str, file: Path, pictures: Pictures) -> Callable[[], Ranges]:
    """Calibrate with onnxruntime, one batch at a time."""
    return onnxruntime(method, file, pictures, stride=1)


def nncf(method: str, file: Path, pictures: Pictures) -> Callable[[], Ranges]:
    """Quantize with NNCF, biases as they are: it does not calibrate alone. `method` is minmax."""
    import nncf
    import onnx
    from nncf.quantization import range_estimator as estimator

    extremes = estimator.RangeEstimatorParametersSet.MINMAX
    settings = nncf.AdvancedQuantizationParameters(
        disable_bias_correction=True, activations_range_estimator_params=extremes
    )

    def run() -> Ranges:
        dataset = nncf.Dataset(list(range(len(pictures))), lambda index: _batch(pictures, index))
        preset = nncf.QuantizationPreset.MIXED
        model = nncf.quantize(
            onnx.load(file), dataset, preset=preset, subset_size=len(pictures), advanced_parameters=settings
        )
        return _ranges_of(model)

    return run


def _batch(pictures: Pictures, index: int) -> dict[str, np.ndarray] | None:
    pictures.set_range(index, index + 1)
    return pictures.get_next()


def _ranges_of(model: Any) -> Ranges:
    """Return what the 8-bit steps of each quantized activation reach from and to."""
    import onnx

    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in arrays:
            scale, zero = (arrays[name] for name in node.input[1:])
            if scale.size == 1:
                limits = np.iinfo(zero.dtype)
                found[node.input[0]] = tuple(float(scale) * (end - int(zero)) for end in (limits.min, limits.max))
    return found


CALIBRATORS = {"tledge": tledge, "onnxruntime": onnxruntime, "strided": strided, "nncf": nncf}


def main(calibrator: str, method: str, file: str, pictures: str, count: str) -> None:
    """Run one calibrator and print the document."""
    import onnx

    given = onnx.load(file, load_external_data=False).graph.input[0]
    shape = tuple(each.dim_value for each in given.type.tensor_type.shape.dim[1:])
    batches = Pictures(Path(pictures), int(count), given.name, shape)
    run = CALIBRATORS[calibrator](method, Path(file), batches)
    printed, sys.stdout = sys.stdout, sys.stderr  # onnxruntime's calibrators and NNCF tell the user where they are
    start = time.perf_counter()
    ranges = run()
    seconds = time.perf_counter() - start
    json.dump({"seconds": seconds, "peak_bytes": _peak_bytes(), "ranges": ranges}, printed)


def _peak_bytes() -> int:
    """Return the peak of this process. Its ru_maxrss starts at what the parent had; the high-water mark is its own."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
