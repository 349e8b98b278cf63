"""Something to feed a graph: random values of the types and shapes that its inputs have.

What the numbers are does not change what a network costs, as long as they are in range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime

Feed = dict[str, np.ndarray]
# Free dimensions behind the first: the full frame of a camera where they are a picture's, else this.
_FRAME, _FREE = (1080, 1920), 128
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
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input of a graph: `shape` has None where a batch goes, and a number in every other place."""

    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """What the inputs of a graph take. `batch` is the number of samples it is fixed to, None for any.

    `free` are the dimensions for which a size was assumed, such as `input_ids[1] = 128`.
    """

    tensors: tuple[Tensor, ...]
    batch: int | None
    free: tuple[str, ...] = ()

    def feed(self, batch: int, seed: int = 0) -> Feed:
        """Return random arrays for `batch` samples: pixels 0 to 255, other whole numbers 0 or 1, the rest 0 to 1."""
        rng = np.random.default_rng(seed)
        return {each.name: _values(each, batch, rng) for each in self.tensors}


def samples(session: onnxruntime.InferenceSession, name: str) -> Samples:
    """Return what the graph in `session`, called `name` in errors, takes.

    The first dimension is the batch where it is open, or the same number for all inputs. A graph of ours that takes
    pictures of any size gets one at a time. Raises ModelError for inputs that are no tensors of numbers.
    """
    given = session.get_inputs()
    free: list[str] = []
    tensors = tuple(_tensor(each, free, name) for each in given)
    firsts = {each.shape[0] if each.shape else None for each in given}
    fixed = firsts.pop() if len(firsts) == 1 else None
    batch = fixed if isinstance(fixed, int) else None
    if batch is None and (free or not any(None in each.shape for each in tensors)):
        batch = 1  # of samples of any size, one is what a box sees at a time
    return Samples(tensors, batch, tuple(free))


def _tensor(given: Any, free: list[str], name: str) -> Tensor:
    if given.type not in _TYPES:
        raise ModelError(
            f"{name} cannot be fed: its input '{given.name}' is a {given.type}.", "Give values with '--input FILE.npz'."
        )
    first, *rest = given.shape or (1,)
    sizes = [_size(given, place, size, free) for place, size in enumerate(rest, 1)]
    shape = (first if isinstance(first, int) else None, *sizes) if given.shape else ()
    return Tensor(given.name, np.dtype(_TYPES[given.type]), shape)


def _size(given: Any, place: int, size: int | str | None, free: list[str]) -> int:
    if isinstance(size, int):
        return size
    picture = len(given.shape) == 4 and (place in (1, 2) if given.shape[3] in (1, 3, 4) else place in (2, 3))
    found = _FRAME[place - (1 if given.shape[3] in (1, 3, 4) else 2)] if picture else _FREE
    free.append(f"{given.name}[{place}] = {found}")
    return found


def _values(tensor: Tensor, batch: int, rng: np.random.Generator) -> np.ndarray:
    shape = tuple(batch if size is None else size for size in tensor.shape)
    if tensor.dtype == np.uint8:
        return rng.integers(0, 256, shape, np.uint8)
    if tensor.dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(tensor.dtype)
    return rng.random(shape, np.float32).astype(tensor.dtype)
