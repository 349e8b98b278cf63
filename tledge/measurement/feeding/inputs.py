"""Something to feed a graph: samples of the user's own, or values made up for the types and shapes of its inputs.

What the numbers are does not change what most networks cost, as long as they are in range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.errors import ModelError
from tledge.measurement.feeding.given import Given, fit
from tledge.measurement.feeding.sizes import Shape, Sizes, lone_picture

if TYPE_CHECKING:
    import onnxruntime

Feed = dict[str, np.ndarray]
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.str_,
}
_MASK, _POSITION, _KIND = (re.compile(word, re.IGNORECASE) for word in ("mask", "position", "token_type|segment"))


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input of a graph: `shape` has None where a batch goes, and a number in every other place."""

    name: str
    dtype: np.dtype
    shape: Shape


@dataclass(frozen=True, slots=True)
class Samples:
    """What the inputs of a graph take. `batch` is the number of samples it is fixed to, None for any.

    `given` holds the user's own samples, where there are some, `source` the file they are from. `assumed` says in
    words what was taken for granted about the rest.
    """

    tensors: tuple[Tensor, ...]
    batch: int | None
    assumed: tuple[str, ...] = ()
    given: Mapping[str, Given] = field(default_factory=dict)
    source: str | None = None

    def feed(self, batch: int, number: int = 0) -> Feed:
        """Return the arrays of the `number`-th batch of `batch` samples; those that were given come round again."""
        rng = np.random.default_rng(number)
        return {
            each.name: self.given[each.name].rows(batch, number)
            if each.name in self.given
            else _values(each, batch, rng)
            for each in self.tensors
        }

    def different(self, batch: int) -> int:
        """Return how many batches there are before they come round again: one where the values are made up."""
        return max((math.ceil(each.count / batch) for each in self.given.values()), default=1)


def samples(
    session: onnxruntime.InferenceSession,
    name: str,
    arrays: Mapping[str, np.ndarray] | None = None,
    source: str | None = None,
    taken: Sequence[str] = (),
) -> Samples:
    """Return what the graph in `session`, called `name` in errors, takes; `arrays` from the file `source` go first.

    Without a `source` these are not the user's, and `taken` says in words what they take for granted.

    The batch is the dimension that says so, else the first one that is free or the same number for all inputs. A graph
    that takes a camera's pictures of any size gets one at a time. Raises ModelError for inputs that nothing can be made
    up for, DataError for `arrays` that do not fit.
    """
    inputs, arrays = session.get_inputs(), dict(arrays or {})
    sizes = Sizes(inputs, _known(inputs, arrays))
    shapes = {each.name: sizes.shape(each) for each in inputs}
    batch = None if any(None in shape for shape in shapes.values()) else 1
    if batch is None and sizes.camera:
        batch = 1
    elif batch == 1 and (first := _common_first(list(shapes.values()))):
        batch = first
        if batch > 1:
            sizes.assumed.append(f"the first dimension, {batch}, is the number of samples")
        shapes = {name: (None, *shape[1:]) if shape[:1] == (first,) else shape for name, shape in shapes.items()}
    given = fit({each.name: each for each in inputs}, shapes, arrays, _TYPES, str(source))
    tensors = tuple(_tensor(each, shapes[each.name], name, each.name in given) for each in inputs)
    made_up = [told for each in tensors if each.name not in given and (told := _told(each))]
    return Samples(tensors, batch, (*taken, *sizes.assumed, *made_up), given, source)


def _known(inputs: Sequence[Any], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return the sizes of free dimensions that the user's arrays settle."""
    found: dict[str, int] = {}
    for each in inputs:
        shape = arrays[each.name].shape if each.name in arrays else ()
        if len(shape) == len(each.shape) + 1:  # samples along a dimension that the graph does not have
            shape = shape[1:]
        if len(shape) == len(each.shape):
            places = enumerate(zip(each.shape, shape, strict=True))
            found |= {dim or f"{each.name}[{at}]": size for at, (dim, size) in places if not isinstance(dim, int)}
    return found


def _common_first(shapes: list[Shape]) -> int | None:
    """Return the first dimension of all tensors that have at least two, if it is the same and counts samples."""
    firsts = {shape[0] for shape in shapes if len(shape) > 1}
    return firsts.pop() if len(firsts) == 1 and not any(map(lone_picture, shapes)) else None


def _tensor(given: Any, shape: Shape, name: str, has_values: bool) -> Tensor:
    known = given.type in _TYPES
    if not known or (given.type == "tensor(string)" and not has_values):
        what = "texts" if known else f"a {given.type}"
        hint = "Give some with '--input FILE.npz'." if known else "Only tensors of numbers and texts can be fed."
        raise ModelError(f"{name} cannot be fed with made-up values: its input '{given.name}' takes {what}.", hint)
    return Tensor(given.name, np.dtype(_TYPES[given.type]), shape)


def _told(tensor: Tensor) -> str:
    """Return what is assumed about the values of `tensor`, if more than that any number in range will do."""
    if _MASK.search(tensor.name):
        return f"{tensor.name}: all 1"
    if tensor.dtype.kind not in "iub" or (tensor.dtype.itemsize == 1 and tensor.shape and tensor.dtype.kind != "b"):
        return "" if tensor.shape else f"{tensor.name}: 1"
    if not tensor.shape:
        return f"{tensor.name}: {'false' if tensor.dtype.kind == 'b' else 1}"
    if _POSITION.search(tensor.name):
        return f"{tensor.name}: 0, 1, 2, …"
    return f"{tensor.name}: all 0" if _KIND.search(tensor.name) else f"{tensor.name}: 0 or 1"


def _values(tensor: Tensor, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Make up values: 1 in masks and for single numbers, all there are for bytes, 0 or 1 for what may be an index."""
    shape, dtype = tuple(batch if size is None else size for size in tensor.shape), tensor.dtype
    if _MASK.search(tensor.name) or (not shape and dtype.kind != "b"):
        return np.ones(shape, dtype)
    if not shape:
        return np.zeros(shape, dtype)
    if dtype.kind == "f":
        return rng.random(shape, np.float32).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    if _POSITION.search(tensor.name):
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(dtype)
    if _KIND.search(tensor.name):
        return np.zeros(shape, dtype)
    return rng.integers(0, 2, shape).astype(dtype)
