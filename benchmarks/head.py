"""Claim: a linear head is fitted 5 times as fast as by scikit-learn, each pass near the bound of the machine.

    python -m benchmarks.head [--rows N] [--classes K,K,…] [--rounds N] [--json]

Features are random [N, 1280], correlated and rectified like those of a backbone, of classes that overlap. One
evaluation of loss and gradient is timed against the same blocks in NumPy, on the same threads, and against the bound:
the features read once at the rate at which this machine reads, or the products at the rate of a large square one,
whichever takes longer. A whole fit, at one strength, starts from the features as they are: scikit-learn's lbfgs is
given a copy standardised in float32, with the same mean and scale, and torch's the same (where torch is installed);
the objective that tledge ends at is within 1e-4 of scikit-learn's, or lower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import measure, processes, script
from tledge import machine, native, reference
from tledge.heads import regression

ROWS, DIMENSION, CLASSES, ROUNDS = 50_000, 1280, (2, 10, 100, 1000), 7
FIT_BARS = {2: 5.0, 10: 5.0, 100: 3.0}  # of more classes, the time is stated
BOUND_BAR, NUMPY_BAR = 0.8, 1.0
L2 = 0.01
OBJECTIVE_TOLERANCE = 1e-4
_BLOCK = 1024
_SQUARE = 2048
_FACTORS = 256


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims for each number of classes."""
    reading, products = _reading_rate(arguments.rows), _product_rate()
    yield measure.claim("GB a second that all cores read", measure.spread([reading / 1e9]))
    yield measure.claim("GFLOP a second of a large square product", measure.spread([products / 1e9]))
    for classes in arguments.classes:
        x, labels = samples(arguments.rows, classes)
        for half in (False, True):
            yield from _one_pass(x.astype(np.float16) if half else x, labels, classes, arguments, reading, products)
        yield from _whole_fit(x, labels, classes, arguments.rounds)


def samples(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features float32 [rows, DIMENSION] and labels int32 [rows].

    As behind a backbone, the features are correlated: rectified sums of a few latent factors, the k-th weighing
    1 / sqrt(k), and noise. Labels are drawn from a softmax of the factors, so the classes overlap.
    """
    rng = np.random.default_rng(classes)
    factors = rng.standard_normal((rows, _FACTORS), np.float32)
    logits = 2 * factors @ rng.standard_normal((_FACTORS, classes), np.float32) / np.sqrt(np.float32(_FACTORS))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1).astype(np.int32)
    mixing = (
        rng.standard_normal((_FACTORS, DIMENSION), np.float32) / np.sqrt(np.arange(1, _FACTORS + 1, dtype="f"))[:, None]
    )
    x = rng.standard_normal((rows, DIMENSION), np.float32)
    x += factors @ mixing
    return np.maximum(x, 0, out=x), labels


def _one_pass(
    x: np.ndarray, labels: np.ndarray, classes: int, arguments: argparse.Namespace, reading: float, products: float
) -> Iterator[dict[str, Any]]:
    weights = (np.random.default_rng(0).standard_normal((classes, DIMENSION + 1)) / 50).astype(np.float32)
    shares = np.full((1, len(x)), 1 / len(x), np.float32)

    def ours() -> tuple[float, np.ndarray]:
        gradient = np.zeros(weights.shape)
        return native.softmax_loss_grad(x, weights, labels, shares, gradient, threads=machine.cores()), gradient

    with ThreadPoolExecutor(machine.cores()) as pool, threadpool_limits(1, user_api="blas"):
        sides = {"NumPy": _blocked(x, labels, weights, shares, pool), "tledge": ours}
        (loss, gradient), (expected_loss, expected) = sides["tledge"](), sides["NumPy"]()
        assert abs(loss - expected_loss) <= 1e-5 * expected_loss
        assert np.abs(gradient - expected).max() <= 1e-4 * np.abs(expected).max()
        seconds = measure.interleave(sides, arguments.rounds)
    what = f"{len(x)} x {DIMENSION} {x.dtype}, {classes} classes"
    found = measure.ratio(seconds["NumPy"], seconds["tledge"])
    text = f"loss and gradient, {what}: blocked NumPy over tledge: at least {NUMPY_BAR:g}"
    yield measure.claim(text, found, at_least=NUMPY_BAR, kind="ratio")
    bound = max(x.nbytes / reading, 4 * x.size * classes / products)
    text = f"loss and gradient, {what}: share of the bound that is reached: at least {BOUND_BAR:g}"
    yield measure.claim(text, measure.spread([bound / each for each in seconds["tledge"]]), at_least=BOUND_BAR)


def _blocked(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, shares: np.ndarray, pool: ThreadPoolExecutor
) -> Callable[[], tuple[float, np.ndarray]]:
    """Return a function that evaluates loss and gradient in NumPy, block by block on the threads of `pool`."""
    blocks = [slice(first, first + _BLOCK) for first in range(0, len(x), _BLOCK)]

    def of_block(rows: slice) -> tuple[float, np.ndarray]:
        gradient = np.zeros(weights.shape)
        return reference.softmax_loss_grad(x[rows], weights, labels[rows], shares[:, rows], gradient), gradient

    def evaluate() -> tuple[float, np.ndarray]:
        loss, total = 0.0, np.zeros(weights.shape)
        for block_loss, gradient in pool.map(of_block, blocks):
            loss += block_loss
            total += gradient
        return loss, total

    return evaluate


def _whole_fit(x: np.ndarray, labels: np.ndarray, classes: int, rounds: int) -> Iterator[dict[str, Any]]:
    from sklearn.linear_model import LogisticRegression

    mean, scale = regression.standardisation(x)
    ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    even = np.ones(len(x), np.float32)

    def ours() -> None:
        weights, bias = regression.refit(x, labels, even, L2, classes)
        ends["tledge"] = weights * scale[:, None], bias + mean @ weights

    def theirs() -> None:
        # Of two classes it keeps one row, the difference of those of a softmax, which cost half of its penalty.
        strength = L2 / 2 if classes == 2 else L2
        model = LogisticRegression(C=1 / (strength * len(x)), max_iter=1000).fit((x - mean) / scale, labels)
        weights, bias = model.coef_.T, model.intercept_
        if classes == 2:
            weights, bias = np.hstack([-weights, weights]) / 2, np.array([-bias[0], bias[0]]) / 2
        ends["scikit-learn"] = weights, bias

    sides = {"scikit-learn": theirs, "tledge": ours}
    if torch := _torch():
        sides["torch"] = lambda: ends.update(torch=_by_torch(torch, (x - mean) / scale, labels, classes))
    few = max(1, rounds // 2) if classes in FIT_BARS else 1
    seconds = measure.interleave(sides, few)
    standardised = (x - mean) / scale
    objectives = {name: _objective(standardised, labels, *end) for name, end in ends.items()}
    processes.say(f"{classes} classes: {objectives}")
    what = f"a whole fit, {len(x)} x {DIMENSION} float32, {classes} classes"
    excess = objectives["tledge"] / objectives["scikit-learn"] - 1
    text = f"{what}: objective over that of scikit-learn, less 1: at most {OBJECTIVE_TOLERANCE:g}"
    yield measure.claim(text, (excess,) * 3, at_most=OBJECTIVE_TOLERANCE)
    bar = FIT_BARS.get(classes)
    text = f"{what}: scikit-learn over tledge" + (f": at least {bar:g}" if bar else "")
    yield measure.claim(text, measure.ratio(seconds["scikit-learn"], seconds["tledge"]), at_least=bar, kind="ratio")
    if torch:
        text = f"{what}: torch over tledge, at {objectives['torch'] / objectives['tledge'] - 1:+.1e} of the objective"
        yield measure.claim(text, measure.ratio(seconds["torch"], seconds["tledge"]), kind="ratio")
    yield measure.claim(f"{what}: seconds of tledge", measure.spread(seconds["tledge"]))


def _torch() -> Any:
    """Return torch, or None: it is a peer and no dependency."""
    try:
        import torch
    except ImportError:
        processes.say("torch is not installed, and left out")
        return None
    return torch


def _by_torch(torch: Any, x: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    inputs, truth = torch.from_numpy(x), torch.from_numpy(labels).long()
    layer = torch.nn.Linear(DIMENSION, classes)
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    solver = torch.optim.LBFGS(
        layer.parameters(), max_iter=1000, tolerance_grad=1e-5, history_size=30, line_search_fn="strong_wolfe"
    )

    def evaluate() -> Any:
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(layer(inputs), truth) + 0.5 * L2 * layer.weight.square().sum()
        loss.backward()
        return loss

    solver.step(evaluate)
    return layer.weight.detach().numpy().T, layer.bias.detach().numpy()


def _objective(x: np.ndarray, labels: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> float:
    """Return what both minimise, in float64: the mean loss and the penalty."""
    penalty = 0.5 * L2 * float(np.square(weights, dtype=np.float64).sum())
    loss = 0.0
    for first in range(0, len(x), _BLOCK):
        rows = slice(first, first + _BLOCK)
        logits = x[rows].astype(np.float64) @ weights + bias
        logits -= logits.max(axis=1, keepdims=True)
        truth = logits[np.arange(len(logits)), labels[rows]]
        loss += float((np.log(np.exp(logits).sum(axis=1)) - truth).sum())
    return loss / len(x) + penalty


def _reading_rate(rows: int) -> float:
    """Return the bytes that all cores together read in a second from an array as large as the features."""
    x = np.ones((rows, DIMENSION), np.float32)
    parts = np.array_split(x, 8 * machine.cores())
    with ThreadPoolExecutor(machine.cores()) as pool:
        seconds = measure.interleave({"read": lambda: list(pool.map(np.max, parts))}, 7)["read"]
    return x.nbytes / min(seconds)


def _product_rate() -> float:
    """Return the operations a second of a square product in single precision on all cores."""
    a = np.random.default_rng(0).standard_normal((_SQUARE, _SQUARE), np.float32)
    return 2 * _SQUARE**3 / min(measure.interleave({"product": lambda: a @ a}, 7)["product"])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes besides --json."""
    parser.add_argument("--rows", type=int, default=ROWS, help=f"samples [{ROWS}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"evaluations timed of each side [{ROUNDS}]")
    parser.add_argument(
        "--classes",
        type=lambda text: tuple(int(each) for each in text.split(",")),
        default=CLASSES,
        metavar="K,K,…",
        help=f"numbers of classes [{','.join(map(str, CLASSES))}]",
    )


if __name__ == "__main__":
    script.main("head", __doc__, claims, add_options)
