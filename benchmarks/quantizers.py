"""Another tool's quantizer in a process of its own: what `benchmarks.precision` starts, and nothing to start by hand.

    PYTHON quantizers.py TOOL MODEL PICTURES COUNT FOLDER

MODEL is a float graph, PICTURES the bytes of uint8 pictures in its size. Writes FOLDER/NAME.onnx for each setting of
TOOL and prints one JSON document: {setting: {"path", "seconds"}}, or {"error"} where the tool gave up. Runs without
this project.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}  # both would report over the network
BATCH = 4
# onnxruntime recommends U8S8 for processors with VNNI and S8S8 elsewhere. By default it quantizes all that it can;
# "without averages" are the operators that `tledge export` quantizes.
WITHOUT_AVERAGES = ["Conv", "Gemm", "MatMul", "Add", "Clip", "Relu", "MaxPool", "Concat"]
ONNXRUNTIME = {
    "minmax U8S8": ("MinMax", "QUInt8", None),
    "minmax S8S8": ("MinMax", "QInt8", None),
    "minmax U8S8 without averages": ("MinMax", "QUInt8", WITHOUT_AVERAGES),
    "percentile U8S8": ("Percentile", "QUInt8", None),
    "percentile U8S8 without averages": ("Percentile", "QUInt8", WITHOUT_AVERAGES),
    "entropy U8S8": ("Entropy", "QUInt8", None),
}
# NNCF gives the activations before depthwise convolutions a scale per channel, which onnxruntime does not fuse, and of
# some graphs refuses to run.
NNCF = {
    "performance": ("PERFORMANCE", None),
    "mixed": ("MIXED", None),
    "performance, activations per tensor": ("PERFORMANCE", False),
}
Made = Iterator[tuple[str, Callable[[Path], None]]]


class Pictures:
    """Pictures in batches, as onnxruntime's calibrators ask for them."""

    def __init__(self, name: str, rows: np.ndarray) -> None:
        self._name, self._rows = name, rows
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._rows) // BATCH

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with batch `start_index`, and end before `end_index`."""
        self._next, self._end = start_index, end_index

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, None after the last."""
        if self._next == self._end:
            return None
        self._next += 1
        return {self._name: self._rows[(self._next - 1) * BATCH : self._next * BATCH]}


def with_onnxruntime(model: Path, name: str, rows: np.ndarray, folder: Path) -> Made:
    """Yield `quantize_static`: QDQ, per channel, on a graph that `quant_pre_process` prepared.

    Settings that share ranges share one calibration. CalibStridedMinMax bounds the memory: batch by batch.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)  # the shapes of these graphs need no sympy
    for setting, (method, activations, op_types) in ONNXRUNTIME.items():

        def run(out: Path, method: str = method, activations: str = activations, ops: Any = op_types) -> None:
            quantize_static(
                prepared,
                out,
                Pictures(name, rows),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=ops,
                per_channel=True,
                activation_type=QuantType[activations],
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[method],
                extra_options={"CalibStridedMinMax": 1},
                calibration_cache_path=folder / f"{method}.json",
            )

        yield setting, run


def with_nncf(model: Path, name: str, rows: np.ndarray, folder: Path) -> Made:
    """Yield `nncf.quantize` with its presets; biases are corrected, as by default."""
    import nncf
    import onnx
    from nncf.quantization.advanced_parameters import QuantizationParameters

    for setting, (preset, per_channel) in NNCF.items():

        def run(out: Path, preset: str = preset, per_channel: bool | None = per_channel) -> None:
            activations = QuantizationParameters(per_channel=per_channel)
            quantized = nncf.quantize(
                onnx.load(model),
                nncf.Dataset([{name: row[None]} for row in rows]),
                preset=nncf.QuantizationPreset[preset],
                subset_size=len(rows),
                advanced_parameters=nncf.AdvancedQuantizationParameters(activations_quantization_params=activations),
            )
            onnx.save(quantized, out)

        yield setting, run


TOOLS = {"onnxruntime": with_onnxruntime, "nncf": with_nncf}


def main(tool: str, model: str, pictures: str, count: str, folder: str) -> None:
    """Run all settings of one tool and print the document."""
    import onnx

    printed, sys.stdout = sys.stdout, sys.stderr  # the tools tell the user where they are
    logging.disable(logging.WARNING)
    given = onnx.load(model).graph.input[0]
    shape = tuple(each.dim_value for each in given.type.tensor_type.shape.dim[1:])
    rows = np.fromfile(pictures, np.uint8).reshape(-1, *shape)[: int(count)]
    found: dict[str, dict[str, Any]] = {}
    for setting, run in TOOLS[tool](Path(model), given.name, rows, Path(folder)):
        out, start = Path(folder) / f"{tool} {setting}.onnx", time.perf_counter()
        try:
            run(out)
            found[setting] = {"path": str(out), "seconds": time.perf_counter() - start}
        except Exception as error:  # a tool that gives up on a graph is a figure to report here
            found[setting] = {"error": f"{type(error).__name__}: {error}"}
    json.dump(found, printed)


if __name__ == "__main__":
    main(*sys.argv[1:])
