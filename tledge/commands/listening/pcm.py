"""Raw samples from a pipe, as arecord, sox and ffmpeg write them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from tledge.decode_sound import HIGHEST_RATE, LOWEST_RATE
from tledge.errors import DataError, TledgeError, did_you_mean

ENCODINGS = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
_MOST_CHANNELS = 64
_PIECE_BYTES = 1 << 16  # what a pipe holds on Linux
_MAGIC_BYTES, _FILES = 4, (b"RIFF", b"RF64", b"fLaC", b"OggS")  # arecord writes WAV unless told not to


class PcmStream:
    """Interleaved samples out of `file`, `rate` a second, as they come; the end of the file or pipe ends them.

    `waited_s` is how long they were waited for; `left_bytes` came last and were no whole sample of every channel.
    """

    def __init__(self, file: BinaryIO, rate: int, channels: int = 1, encoding: str = "s16le") -> None:
        _check(rate, channels, encoding)
        self._file, self.rate, self.channels, self.encoding = file, rate, channels, encoding
        self.waited_s, self.left_bytes = 0.0, 0

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 [n, channels]. Raises DataError when reading fails, or what comes is a file with a header."""
        kind, rest = ENCODINGS[self.encoding], b""
        frame_bytes = self.channels * kind.itemsize
        scale = np.float32(1 / 32768 if kind.kind == "i" else 1)
        for piece in self._pieces():
            rest += piece
            whole = len(rest) // frame_bytes * frame_bytes
            if whole:
                yield np.frombuffer(rest[:whole], kind).astype(np.float32).reshape(-1, self.channels) * scale
            rest = rest[whole:]
        self.left_bytes = len(rest)

    def _pieces(self) -> Iterator[bytes]:
        piece = self._read(_MAGIC_BYTES, at_once=False)
        if piece in _FILES:
            raise DataError("it must be raw samples, found a sound file with a header")
        while piece:
            yield piece
            piece = self._read(_PIECE_BYTES)

    def _read(self, most: int, at_once: bool = True) -> bytes:
        """Return what is there, as soon as anything is; without `at_once`, `most` bytes unless the stream ends."""
        read = getattr(self._file, "read1", self._file.read) if at_once else self._file.read
        start = time.perf_counter()
        try:
            return read(most)
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from error
        finally:
            self.waited_s += time.perf_counter() - start


def stdin() -> BinaryIO:
    """Return standard input. Raises DataError when nothing is piped into it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError(
            "Raw samples must be piped into standard input, and nothing is.",
            "Type 'arecord -t raw -f S16_LE -r 16000 | tledge listen M.onnx --input -'.",
        )
    return sys.stdin.buffer


def _check(rate: int, channels: int, encoding: str) -> None:
    if encoding not in ENCODINGS:
        raise TledgeError(f"There is no encoding '{encoding}'.", did_you_mean(encoding, ENCODINGS))
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise TledgeError(f"A rate must be {LOWEST_RATE:,} to {HIGHEST_RATE:,} Hz, got {rate:,}.")
    if not 1 <= channels <= _MOST_CHANNELS:
        raise TledgeError(f"There must be 1 to {_MOST_CHANNELS} channels, got {channels}.")
