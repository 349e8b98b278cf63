"""One contender of benchmarks.latency, in a process of its own: JPEG bytes in, a label out, one at a time.

    python latency_way.py WAY MODEL.onnx THREADS JPEG…

It says "ready" when it has met every picture once. For each line that it reads it then goes over all of them, and
prints {"ms": […], "labels": […]}: what each took, from the bytes in memory to the name of the class.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Classify = Callable[[bytes], str]


def by_tledge(model: str, threads: int) -> Classify:
    """Use tledge's runtime, as it comes."""
    from tledge.runtime import Predictor

    predictor = Predictor(model, provider="cpu", threads=threads)
    return lambda jpeg: predictor([jpeg])[0].label


def by_pillow(model: str, threads: int) -> Classify:
    """Use Pillow, NumPy and an onnxruntime session with nothing set, as first written by most."""
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(model)
    size, classes = _facts(session)

    def classify(jpeg: bytes) -> str:
        picture = Image.open(io.BytesIO(jpeg)).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        (row,) = session.run(None, {"image": np.asarray(picture)[None]})[0]
        return classes[row.argmax()]

    return classify


def by_opencv(model: str, threads: int) -> Classify:
    """Use OpenCV as fast as it goes, and a session with what guides recommend."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    size, classes = _facts(session)
    read = _opencv_reader(size, threads)

    def classify(jpeg: bytes) -> str:
        (row,) = session.run(["probabilities"], {"image": read(jpeg)[None]})[0]
        return classes[row.argmax()]

    return classify


def by_openvino(model: str, threads: int) -> Classify:
    """Use OpenCV as fast as it goes, and OpenVINO set for latency, on the same file."""
    import onnxruntime
    import openvino

    size, classes = _facts(onnxruntime.InferenceSession(model))
    core = openvino.Core()
    network = core.read_model(model)
    network.reshape([1, size[1], size[0], 3])
    # On processors with bfloat16 it would compute in that: not the same network.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    read = _opencv_reader(size, threads)

    def classify(jpeg: bytes) -> str:
        found = request.infer([read(jpeg)[None]], share_inputs=True, share_outputs=True)
        return classes[found[0][0].argmax()]

    return classify


def _opencv_reader(size: tuple[int, int], threads: int) -> Callable[[bytes], np.ndarray]:
    """Return what makes JPEG bytes into uint8 RGB of `size` (width, height).

    Like tledge it decodes a large picture to 1/2, 1/4 or 1/8, by the height and width of the first it meets: OpenCV
    does not tell them beforehand, and on a box all come from one camera. INTER_AREA, which does not alias, takes seven
    times as long as INTER_LINEAR; of a picture that is less than twice as large, the latter is near enough.
    """
    import cv2

    cv2.setNumThreads(threads)
    reduced = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
    flag: int | None = None

    def read(jpeg: bytes) -> np.ndarray:
        nonlocal flag
        data = np.frombuffer(jpeg, np.uint8)
        if flag is None:
            height, width = cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]
            fits = [by for by in reduced if height >= by * size[1] and width >= by * size[0]]
            flag = reduced[fits[0]] if fits else cv2.IMREAD_COLOR
        pixels = cv2.imdecode(data, flag)
        near = pixels.shape[0] < 2 * size[1] and pixels.shape[1] < 2 * size[0]
        resized = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR if near else cv2.INTER_AREA)
        return cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)

    return read


def _facts(session: Any) -> tuple[tuple[int, int], list[str]]:
    """Return the size (width, height) and the classes, from the metadata of the file."""
    facts = session.get_modelmeta().custom_metadata_map
    spec = json.loads(facts["preprocess"])
    return (spec["width"], spec["height"]), json.loads(facts["classes"])


WAYS: dict[str, Callable[[str, int], Classify]] = {
    "tledge": by_tledge,
    "Pillow": by_pillow,
    "OpenCV": by_opencv,
    "OpenVINO": by_openvino,
}


def main(way: str, model: str, threads: str, *paths: str) -> None:
    """Get ready, and go over the pictures each time that a line comes in."""
    pictures = [Path(path).read_bytes() for path in paths]
    classify = WAYS[way](model, int(threads))
    labels = [classify(jpeg) for jpeg in pictures]
    print("ready", flush=True)
    for _ in sys.stdin:
        milliseconds = []
        for number, jpeg in enumerate(pictures):
            start = time.perf_counter()
            labels[number] = classify(jpeg)
            milliseconds.append(1000 * (time.perf_counter() - start))
        print(json.dumps({"ms": milliseconds, "labels": labels}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
