"""Find out which pixels a network was trained on, from the first batch normalisation in it.

That layer keeps the mean and variance that each channel had in training. Pictures drawn with the statistics of photos
(power falling with the square of the frequency, channels that go together) come nearest to them when they are scaled as
in training; 0..255 against 0..1 is a factor of 65,025 in the variance.
Source: Torralba and Oliva 2003 (Statistics of natural image categories) for the spectrum; ImageNet's colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

_MEAN, _STD = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])
_SHARED = 0.9  # of a channel's deviation is brightness, which all three have
_PICTURES = 8


@dataclass(frozen=True, slots=True)
class PixelRange:
    """A scaling that people use: `(pixel - mean) / std`, channels in the network's order."""

    told: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


UNSCALED = PixelRange("0..255")
UNIT = PixelRange("0..1", std=(255.0,))
RANGES = (UNSCALED, UNIT, PixelRange("-1..1", mean=(127.5,), std=(127.5,)))


def find_range(keras: ModuleType, network: Any) -> PixelRange | None:
    """Return the one of RANGES that `network`, a flat Keras model of pictures, was most probably trained on.

    None where nothing tells: no batch normalisation, or one that was never trained.
    """
    norm = next((each for each in network.layers if isinstance(each, keras.layers.BatchNormalization)), None)
    if norm is None or _untrained(norm) or norm.axis not in (-1, len(norm.input.shape) - 1):
        return None
    height, width, channels = network.inputs[0].shape[1:]
    pictures = _photos(height, width)
    pictures = pictures if channels == 3 else pictures.mean(axis=-1, keepdims=True)
    before = keras.Model(network.inputs[0], norm.input)
    distances = [_distance(norm, before, (pictures - each.mean) / each.std) for each in RANGES]
    return RANGES[int(np.argmin(distances))] if np.isfinite(min(distances)) else None


def _untrained(norm: Any) -> bool:
    return not np.any(norm.moving_mean) or bool(np.all(np.asarray(norm.moving_variance) == 1))


def _distance(norm: Any, before: Any, pixels: np.ndarray) -> float:
    """Return the mean over channels of the Kullback–Leibler divergence, both ways, of two normal distributions."""
    reached = np.asarray(before(pixels.astype(np.float32), training=False), np.float64)
    reached = reached.reshape(-1, reached.shape[-1])
    mean, variance = reached.mean(axis=0), reached.var(axis=0) + norm.epsilon
    kept_mean = np.asarray(norm.moving_mean, np.float64)
    kept_variance = np.asarray(norm.moving_variance, np.float64) + norm.epsilon
    apart = (mean - kept_mean) ** 2
    both = (variance + apart) / kept_variance + (kept_variance + apart) / variance
    return float(np.log(both).mean())


def _photos(height: int, width: int) -> np.ndarray:
    """Return float64 [n, height, width, 3] in 0..255 with the statistics of photos, the same each time."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    amplitude = 1 / np.maximum(frequency, 1 / max(height, width))
    noise = np.fft.rfft2(rng.standard_normal((_PICTURES, 4, height, width)))
    planes = np.fft.irfft2(noise * amplitude, s=(height, width))
    planes /= planes.std() or 1.0
    coloured = _SHARED * planes[:, :1] + np.sqrt(1 - _SHARED**2) * planes[:, 1:]
    return np.clip(np.moveaxis(coloured, 1, -1) * _STD + _MEAN, 0, 255)
