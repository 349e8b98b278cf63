"""Run a network as its maker left it, and the backbone made from it: both must give the same features."""

from __future__ import annotations

from typing import Any

import numpy as np

from tledge import engine
from tledge.backbones import sound_input
from tledge.backbones.from_onnx.feed import LUMA
from tledge.backbones.from_onnx.input import NetworkInput
from tledge.backbones.from_onnx.sound import SoundInput
from tledge.errors import BackboneError, ModelError
from tledge.schema import ChannelOrder, InputSpec, SoundSpec, VectorSpec

SAMPLES = 3
_LONGEST_REASON = 300
# Half of float16's bits are lost where a half-precision network computes in its own.
_TOLERANCE = {np.dtype(np.float32): 1e-3, np.dtype(np.float16): 3e-2}


def samples(spec: InputSpec) -> np.ndarray:
    """Return SAMPLES made-up inputs for `spec`: uint8 [SAMPLES, height, width, 3], or float32 [SAMPLES, length]."""
    rng = np.random.default_rng(0)
    if isinstance(spec, SoundSpec):
        return sound_input.made_up(SAMPLES, spec)
    if isinstance(spec, VectorSpec):
        return rng.normal(spec.mean, spec.std, (SAMPLES, spec.length)).astype(np.float32)
    return rng.integers(0, 256, (SAMPLES, spec.height, spec.width, 3), dtype=np.uint8)


def normalised(inputs: np.ndarray, spec: InputSpec, order: ChannelOrder, form: NetworkInput | SoundInput) -> np.ndarray:
    """Return `inputs` as a network of `form` takes them, computed in NumPy."""
    if isinstance(form, SoundInput):
        return sound_input.compute(inputs, spec, form.order(spec))
    if isinstance(spec, VectorSpec):
        return ((inputs - spec.mean) / spec.std).astype(np.float32)
    if not form.takes_bytes:
        inputs = ((inputs - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32)
    inputs = inputs[..., ::-1] if order == "bgr" else inputs
    if form.channels == 1:
        inputs = (inputs @ np.array(LUMA, np.float32))[..., None]
    return np.ascontiguousarray(inputs if form.last else inputs.transpose(0, 3, 1, 2))


def run_network(model: Any, inputs: np.ndarray, form: NetworkInput | SoundInput, name: str) -> np.ndarray:
    """Return what the untouched `model` gives for `inputs` [SAMPLES, …], fed in batches of the size it is fixed to.

    Raises BackboneError when onnxruntime cannot run it.
    """
    from onnx import TensorProto

    if model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16:
        inputs = inputs.astype(np.float16)
    session, batch = _open(model.SerializeToString(), name, inputs.shape), form.batch or 1
    if isinstance(form, SoundInput) and form.alone:
        return np.stack([_run(session, {form.name: sample}, name) for sample in inputs])
    rows = [_run(session, {form.name: np.repeat(sample[None], batch, axis=0)}, name) for sample in inputs]
    if rows[0].shape[:1] != (batch,):
        return rows[0]
    return np.concatenate([row[:1] for row in rows])


def check_agreement(data: bytes, inputs: np.ndarray, expected: np.ndarray, kind: str, name: str) -> None:
    """Raise BackboneError unless the backbone `data` gives the features `expected`, for all `inputs` and for each.

    `kind` is the name of its input.
    """
    session = _open(data, name, inputs.shape)
    alone = np.concatenate([_run(session, {kind: sample[None]}, name) for sample in inputs])
    _compare(alone, expected, f"The backbone made from {name} must give the features of its network")
    hint = "Export it with a first axis of any length: dynamic_shapes (or dynamic_axes) in torch.onnx.export."
    try:
        together = _run(session, {kind: inputs}, name)
    except BackboneError as error:
        raise BackboneError(f"{name} can only take one picture at a time.", hint) from error
    _compare(together, alone, f"{name} must treat each picture by itself", hint)


_REPORT = "Please report this, with the file."


def _compare(found: np.ndarray, expected: np.ndarray, what: str, hint: str = "") -> None:
    if not np.isfinite(expected).all():
        raise BackboneError(f"{what}, but these are not finite.", "Check its preprocessing and the file.")
    if found.shape != expected.shape:
        raise BackboneError(f"{what}, but has {list(found.shape)} for {list(expected.shape)}.", hint or _REPORT)
    worst = float(np.abs(found - expected.astype(np.float32)).max() / (np.abs(expected).max() or 1))
    if not worst <= _TOLERANCE[expected.dtype]:
        raise BackboneError(f"{what}, but is off by {worst:.1e}.", hint or _REPORT)


def _open(data: bytes, name: str, shape: tuple[int, ...]) -> Any:
    try:
        return engine.open_session(data, provider="cpu", name=name)
    except ModelError as error:
        raise _trouble(name, shape, error.message) from error


def _run(session: Any, feed: dict[str, np.ndarray], name: str) -> np.ndarray:
    try:
        return session.run(None, feed)[0]
    except Exception as error:  # onnxruntime's exception classes share no base but Exception
        shape = next(iter(feed.values())).shape
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _trouble(name, shape, reason) from error


def _trouble(name: str, shape: tuple[int, ...], reason: str) -> BackboneError:
    size = " × ".join(str(length) for length in shape[1:])
    return BackboneError(
        f"onnxruntime cannot run {name} with inputs of {size}: {reason[:_LONGEST_REASON].rstrip('.')}.",
        "Try another --input-size, or export it again.",
    )
