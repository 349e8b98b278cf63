"""Claim: on a GPU, the head's pass over the features is bound by memory alone, and extraction keeps up with PyTorch.

    python -m benchmarks.gpu [--rows N] [--classes K,K,…] [--rounds N] [--json]

Every CUDA kernel is held to the NumPy reference first; where one disagrees, nothing is timed. Then:

- Loss and gradient of softmax regression over half-precision features [N, 1280] that are on the device: against the
  time to read them once, at the rate at which this device copies; and against PyTorch, whose two products are cuBLAS's.
- Features of EfficientNet-Lite0 in half precision, pictures in the host's memory, normalisation and copies included:
  against timm's network under torch.compile, channels last, autocast. Weights are random, and the same on both sides.

It needs a GPU, a build with -DTLEDGE_CUDA=ON, and PyTorch with timm for the peers; for extraction onnxruntime-gpu and
onnx. It ends with 3 where there is no GPU. benchmarks/gpu.sh builds, checks and times in one go.

Not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, processes, script
from tledge import engine, gpu, native, reference
from tledge.errors import EngineError, TledgeError
from tledge.features import on_gpu
from tledge.features.extract import piece_of
from tledge.schema import Backbone, PreprocessSpec

ROWS, DIMENSION, CLASSES, ROUNDS = 1_280_000, 1280, (2, 10, 64), 11
ROOF_BAR, PRODUCTS_BAR, EXTRACTION_BAR = 0.7, 1.0, 1.0
_PICTURES, _SIZE, _BATCH = 8192, 224, 256
_MEAN, _STD = 127.0, 128.0
_NETWORK = "efficientnet_lite0"
_COPY_BYTES = 4 << 30


class NothingToMeasure(TledgeError):
    """What would be measured is not on this machine."""

    exit_code = 3


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims of the kernels and of extraction."""
    if not gpu.name():
        hint = "Run it on a machine with one, on a build with -DTLEDGE_CUDA=ON."
        raise NothingToMeasure("There is no GPU that the CUDA kernels could run on.", hint)
    processes.say(f"on {gpu.name()}")
    check_parity()
    import torch

    rate = _copy_rate(torch)
    yield measure.claim("GB a second that the device copies, read and written", measure.spread([rate / 1e9]))
    yield from _head(torch, arguments, rate)
    yield from _extraction(torch, arguments.rounds)


# ── Parity ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_parity() -> None:
    """Compare every CUDA kernel with the reference. Raises TledgeError where they differ by more than rounding."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float16):
        x = rng.standard_normal((5000, DIMENSION)).astype(dtype)
        for classes in (2, 10, 64, 100):
            labels = rng.integers(0, classes, len(x)).astype(np.int32)
            weights = (rng.standard_normal((classes, DIMENSION + 1)) / 50).astype(np.float32)
            shares = np.full((1, len(x)), 1 / len(x), np.float32)
            _compare("softmax_loss_grad", (x, weights, labels, shares), (weights.shape,))
            targets = rng.random((len(x), classes)) < 0.3
            each = np.full((classes, 1, len(x)), 1 / len(x), np.float32)
            _compare("sigmoid_loss_grad", (x, weights, targets, each), (weights.shape,))
        _compare("gram", (x, labels), ((DIMENSION, DIMENSION), (classes, DIMENSION)))
    _check_pictures(rng)


def _compare(kernel: str, arrays: tuple[np.ndarray, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    filled = []
    for function in (getattr(reference, kernel), native.implementation(kernel, "cuda")):
        outputs = [np.zeros(shape) for shape in shapes]
        loss = function(*arrays, *outputs)
        filled.append([*outputs, np.array(loss or 0.0)])
    for expected, found in zip(*filled, strict=True):
        _close(kernel, found, expected, 1e-4 * max(float(np.abs(expected).max()), 1e-30))


def _check_pictures(rng: np.random.Generator) -> None:
    resize_normalize = native.implementation("resize_normalize", "cuda")
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((480, 640, 3), (900, 200), (100, 90, 3))]
    for interpolation in ("bilinear", "bicubic"):
        for fit in ("stretch", "crop", "pad"):
            out, expected = np.empty((2, len(images), _SIZE, _SIZE, 3), np.uint8)
            resize_normalize(images, out, fit, interpolation)
            native.implementation("resize_normalize", "reference")(images, expected, fit, interpolation)
            _close("resize_normalize", out.astype(float), expected, 0)


def _close(kernel: str, found: np.ndarray, expected: np.ndarray, allowed: float) -> None:
    worst = float(np.abs(found - expected).max())
    processes.say(f"{kernel}: differs by {worst:.3g}, {allowed:.3g} allowed")
    if not worst <= allowed:
        raise TledgeError(f"{kernel} on the GPU must agree with the reference to {allowed:.3g}, found {worst:.3g}.")


# ── The head ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _copy_rate(torch: Any) -> float:
    """Return the bytes a second, those read and those written, of a large copy on the device."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    return 2 * _COPY_BYTES / min(measure.interleave({"copy": copy}, 7)["copy"])


def _head(torch: Any, arguments: argparse.Namespace, rate: float) -> Iterator[dict[str, Any]]:
    generator = torch.Generator(device="cuda").manual_seed(0)
    theirs = torch.randn(arguments.rows, DIMENSION, device="cuda", generator=generator).half()
    ours = gpu.upload(theirs.cpu().numpy())
    shares = gpu.upload(np.full((1, arguments.rows), 1 / arguments.rows, np.float32))
    for classes in arguments.classes:
        labels = torch.randint(0, classes, (arguments.rows,), device="cuda", generator=generator)
        weights = (np.random.default_rng(0).standard_normal((classes, DIMENSION + 1)) / 50).astype(np.float32)
        sides = {
            "torch": _with_torch(torch, theirs, labels, weights),
            "tledge": _with_tledge(ours, gpu.upload(labels.int().cpu().numpy()), shares, weights),
        }
        expected, found = sides["torch"](), sides["tledge"]()
        # In half precision PyTorch's weights and errors have eleven bits.
        assert np.abs(found - expected).max() <= 5e-3 * np.abs(expected).max()
        seconds = measure.interleave(sides, arguments.rounds)
        what = f"loss and gradient, {arguments.rows} x {DIMENSION} float16, {classes} classes"
        text = f"{what}: PyTorch's two products over tledge: at least {PRODUCTS_BAR:g}"
        found = measure.ratio(seconds["torch"], seconds["tledge"])
        yield measure.claim(text, found, at_least=PRODUCTS_BAR, kind="ratio")
        least = 2 * arguments.rows * DIMENSION / rate
        text = f"{what}: share of the rate of memory that is reached: at least {ROOF_BAR:g}"
        yield measure.claim(text, measure.spread([least / each for each in seconds["tledge"]]), at_least=ROOF_BAR)


def _with_torch(torch: Any, x: Any, labels: Any, weights: np.ndarray) -> Callable[[], np.ndarray]:
    matrix, bias = (torch.tensor(part, device="cuda").half() for part in (weights[:, :-1], weights[:, -1]))
    truth = torch.nn.functional.one_hot(labels, len(weights))

    @torch.compile
    def errors_of(logits: Any) -> Any:
        return (torch.softmax((logits + bias).float(), 1) - truth).half()

    def evaluate() -> np.ndarray:
        # A row's share, 1 / N, is too small for a half: it is taken after the product.
        return (errors_of(x @ matrix.T).T @ x).float().cpu().numpy() / len(x)

    return evaluate


def _with_tledge(x: Any, labels: Any, shares: Any, weights: np.ndarray) -> Callable[[], np.ndarray]:
    softmax_loss_grad = native.implementation("softmax_loss_grad", "cuda")

    def evaluate() -> np.ndarray:
        gradient = np.zeros(weights.shape)
        softmax_loss_grad(x, weights, labels, shares, gradient)
        return gradient[:, :-1]

    return evaluate


# ── Extraction ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _extraction(torch: Any, rounds: int) -> Iterator[dict[str, Any]]:
    try:
        engine.check("cuda")
    except EngineError as error:
        processes.say(f"Extraction is left out: {error}")
        return
    pictures = np.random.default_rng(0).integers(0, 256, (_PICTURES, _SIZE, _SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        network = _network(torch)
        backbone = _exported(torch, network, Path(folder))
        pipeline = on_gpu.Pipeline(backbone, "cuda", piece_of("cuda"), lambda picture, _, to: np.copyto(to, picture))
        sides = {"torch": _features_of_torch(torch, network, pictures), "tledge": _features_of(pipeline, pictures)}
        expected, found = sides["torch"](), sides["tledge"]()
        assert np.abs(found - expected).max() <= 0.05 * np.abs(expected).max()
        seconds = measure.interleave(sides, rounds)
        pipeline.close()
    speeds = [_PICTURES / each for each in seconds["tledge"]]
    yield measure.claim(f"pictures a second, {_NETWORK} in half precision, decoded", measure.spread(speeds))
    text = f"extraction, {_NETWORK} in half precision: torch.compile over tledge: at least {EXTRACTION_BAR:g}"
    found = measure.ratio(seconds["torch"], seconds["tledge"])
    yield measure.claim(text, found, at_least=EXTRACTION_BAR, kind="ratio")


def _network(torch: Any) -> Any:
    """Return the network with normalisation in front: uint8 [N, height, width, 3] to features."""
    import timm

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = timm.create_model(_NETWORK, pretrained=False, num_classes=0)

        def forward(self, image: Any) -> Any:
            return self.body((image.permute(0, 3, 1, 2).float() - _MEAN) / _STD)

    torch.manual_seed(0)
    return Network().eval()


def _exported(torch: Any, network: Any, folder: Path) -> Backbone:
    path = folder / f"{_NETWORK}.onnx"
    example = torch.zeros(2, _SIZE, _SIZE, 3, dtype=torch.uint8)
    batch = {"image": {0: torch.export.Dim("N")}}
    names = {"input_names": ["image"], "output_names": ["features"]}
    torch.onnx.export(network, (example,), path, dynamo=True, dynamic_shapes=batch, external_data=False, **names)
    spec = PreprocessSpec(_SIZE, _SIZE, mean=(_MEAN,) * 3, std=(_STD,) * 3)
    return Backbone(_NETWORK, path, spec, 1280, hashlib.sha256(path.read_bytes()).hexdigest())


def _features_of(pipeline: on_gpu.Pipeline, pictures: np.ndarray) -> Callable[[], np.ndarray]:
    size = piece_of("cuda")
    pieces = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    threads = ThreadPoolExecutor(on_gpu.LANES)
    return lambda: np.concatenate([rows for rows, _ in threads.map(pipeline.run, pieces)])


def _features_of_torch(torch: Any, network: Any, pictures: np.ndarray) -> Callable[[], np.ndarray]:
    compiled = torch.compile(network.cuda().to(memory_format=torch.channels_last), mode="max-autotune")
    pinned = torch.from_numpy(pictures).pin_memory()

    @torch.inference_mode()
    def evaluate() -> np.ndarray:
        with torch.autocast("cuda", torch.float16):
            parts = [compiled(part.cuda(non_blocking=True)).float().cpu() for part in pinned.split(_BATCH)]
        return torch.cat(parts).numpy()

    return evaluate


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("--rows", type=int, default=ROWS, help=f"samples of the head [{ROWS}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"times that each side runs [{ROUNDS}]")
    parser.add_argument(
        "--classes",
        type=lambda text: tuple(int(each) for each in text.split(",")),
        default=CLASSES,
        metavar="K,K,…",
        help=f"numbers of classes [{','.join(map(str, CLASSES))}]",
    )


if __name__ == "__main__":
    script.main("gpu", __doc__, claims, add_options)
