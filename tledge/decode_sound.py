"""Decode a sound file to float32 samples of one channel at the rate wanted; training and serving both go through here.

Formats: WAV, FLAC, OGG (Vorbis, Opus), MP3, known by content and not by name. A file becomes samples in one way:

| In the file                          | Becomes                                                       |
|--------------------------------------|---------------------------------------------------------------|
| integers of b bits                   | value / 2^(b-1); of unsigned 8 bits, (value - 128) / 128      |
| floats                               | the same value                                                |
| several channels                     | their mean                                                    |
| another rate                         | resampled by soxr, quality HQ                                 |
| beyond full scale, up to 4 times     | cut off at -1 and 1 (lossy formats and resampling overshoot)  |
| beyond that; NaN; infinity           | refused                                                       |

Damaged files are refused, never filled up: a WAV, FLAC or OGG that is cut short is a DataError, and so is an MP3 whose
header says how long it is. (An MP3 without such a header cannot be told from a shorter one.) A WAV that was written to
a pipe, and so says no length, reaches to the end of the file.

libsndfile decodes (soundfile), block by block, so that memory is bounded by what is returned.
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from tledge.errors import DataError, MissingExtra
from tledge.sound_formats import is_cut, is_sound

if TYPE_CHECKING:
    from soundfile import LibsndfileError, SoundFile

FORMATS = ("WAV", "FLAC", "OGG", "MP3")
MAX_SECONDS = 3600
LOWEST_RATE, HIGHEST_RATE = 100, 768_000
_BLOCK_SAMPLES = 1 << 22  # of all channels; nearly every clip is one block
_LOUDEST = 4.0  # times full scale, 12 dB
_MARGIN = 800  # samples, of the lower rate, on either side of a part: farther than soxr's filter reaches
_LATE_S = 0.1  # by how much a part may end behind its file: tables round
_HEAD_BYTES = 1 << 16
_UNKNOWN_FRAMES = 1 << 62
# libsndfile seeks to within some milliseconds in these, and in MP3 speaks to the terminal about it.
_NOT_SOUGHT = ("VORBIS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")
_NOT_THERE = 7  # libsndfile's SFE_BAD_FILE


class Loudness(NamedTuple):
    """What a sound holds: its length, its largest absolute sample, and the share of samples at full scale, 0..1."""

    seconds: float
    peak: float
    clipped: float


def decode_sound(
    source: str | os.PathLike[str] | bytes, rate: int, start: float = 0.0, end: float | None = None
) -> np.ndarray:
    """Decode a sound, given as a path or as the bytes of its file, to float32 [n] in -1..1, `rate` samples a second.

    Of `start` to `end`, in seconds, comes what the same seconds of the whole would be, and little more is decoded than
    that takes; but of MP3 and Vorbis, all that stands before it. Raises DataError, its message the bare reason, when
    the file cannot be read, is no sound, is empty, damaged or cut short (see above), does not hold that part, or when
    more than MAX_SECONDS are wanted of it; MissingExtra without soundfile or soxr.
    """
    with _opened(source) as file:
        samples = _samples(file, rate, *_span(file, start, end))
    return within_full_scale(samples)


def within_full_scale(samples: np.ndarray) -> np.ndarray:
    """Return float32 `samples` cut off at -1 and 1, in place; DataError where they are on another scale, or NaN."""
    _check_scale(max(samples.max(), -samples.min()))
    return np.clip(samples, -1, 1, out=samples)


def _check_scale(peak: np.floating) -> None:
    if not np.isfinite(peak):  # NaN is the largest and the smallest of all that it stands among
        raise DataError("its samples must be finite, found NaN or infinity")
    if peak > _LOUDEST:
        raise DataError(f"its samples reach {peak:.3g} times full scale; save them within -1..1")


def stream_sound(source: str | os.PathLike[str] | bytes, rate: int) -> Iterator[np.ndarray]:
    """Yield what `decode_sound` returns of a sound of any length piece by piece, float32 [n]; raises as that does."""
    with _opened(source) as file:
        yield from at_rate(_blocks(file, 0, file.frames, file.samplerate), file.samplerate, rate)


def at_rate(blocks: Iterator[np.ndarray], native: int, rate: int) -> Iterator[np.ndarray]:
    """Yield float32 [n] of one channel, -1..1, at `rate` Hz of float32 `blocks` [n, channels] at `native` Hz.

    What comes does not depend on how the samples were cut into blocks. Raises DataError for samples on another scale,
    MissingExtra without soxr where the rates differ.
    """
    yield from (within_full_scale(chunk) for chunk in _chunks(blocks, native, rate) if len(chunk))


def duration(source: str | os.PathLike[str] | bytes) -> float:
    """Return how many seconds the sound says it has, by its header alone; raises as `decode_sound`."""
    with _opened(source) as file:
        return _seconds(file)


def gauge(source: str | os.PathLike[str] | bytes, start: float = 0.0, end: float | None = None) -> Loudness:
    """Decode a sound as it is, all channels, and return how long and how loud it is; raises as `decode_sound`."""
    with _opened(source) as file:
        begin, finish = _span(file, start, end)
        first, last = int(begin * file.samplerate), math.ceil(finish * file.samplerate)
        full = 127 / 128 if file.subtype in ("PCM_U8", "PCM_S8") else 32767 / 32768
        peak, at_full, count = 0.0, 0, 0
        for block in _blocks(file, first, min(last, file.frames)):
            size = np.abs(block)
            at_full += int(np.count_nonzero(size >= full))
            _check_scale(size.max())
            peak, count = max(peak, float(size.max())), count + size.size
        return Loudness(finish - begin, peak, at_full / count)


# ── Open ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[SoundFile]:
    """Open a sound whose header makes sense; whatever goes wrong with it inside the block becomes a DataError."""
    soundfile = _soundfile()
    with _raw(source) as raw:
        _check_contents(raw)
        try:
            with soundfile.SoundFile(raw.fileno() if isinstance(raw, io.FileIO) else raw, closefd=False) as file:
                _check_header(file)
                # soundfile seeks behind every read where it can: at each block of MP3 and Vorbis, a gap or a click.
                file.seekable = lambda: False
                yield file
        except soundfile.LibsndfileError as error:
            raise DataError(_damage(error)) from error
        except MemoryError as error:
            raise DataError("not enough memory to decode it") from error
        except OSError as error:
            raise DataError(f"cannot be read ({_one_line(error)})") from error


def _soundfile():
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not
        raise MissingExtra("soundfile", "sound") from error
    return soundfile


def _raw(source: str | os.PathLike[str] | bytes) -> BinaryIO | io.FileIO:
    if isinstance(source, bytes):
        return _Memory(source)
    try:
        if not stat.S_ISREG(Path(source).stat().st_mode):  # a pipe would be waited for without end
            raise DataError("not a regular file")
        return io.FileIO(source)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({_one_line(error)})") from error


class _Memory(io.BytesIO):
    def seek(self, offset: int, whence: int = 0) -> int:
        # Damaged headers send libsndfile before the start; an exception could not pass through it.
        here = (0, self.tell(), len(self.getbuffer()))[whence]
        return super().seek(max(0, here + offset))


def _check_contents(raw: BinaryIO | io.FileIO) -> None:
    head = raw.read(_HEAD_BYTES)
    if not head:
        raise DataError("empty file (0 bytes)")
    if not is_sound(head):
        raise DataError(f"damaged, or not one of {', '.join(FORMATS)}")
    if is_cut(raw):
        raise DataError("cut short")
    raw.seek(0)


def _check_header(file: SoundFile) -> None:
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise DataError(f"its rate is {file.samplerate:,} Hz, outside of {LOWEST_RATE:,} to {HIGHEST_RATE:,}")
    if file.frames <= 0:
        raise DataError("holds no samples")
    if file.frames >= _UNKNOWN_FRAMES:
        raise DataError("does not say how long it is; encode it again, into a file and not a pipe")


def _damage(error: LibsndfileError) -> str:
    # Of an MP3 without a whole frame libsndfile says that the file is not there.
    reason = "" if error.code == _NOT_THERE else f" ({_one_line(error)})"
    return f"damaged or cut short{reason}"


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


# ── Read ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _seconds(file: SoundFile) -> float:
    return file.frames / file.samplerate


def _span(file: SoundFile, start: float, end: float | None) -> tuple[float, float]:
    """Return where the part begins and ends, in seconds of the file."""
    seconds = _seconds(file)
    until = seconds if end is None else end
    if not 0 <= start < until < math.inf:
        raise DataError(f"its part must begin at 0 s or later and end after that; found {start:g} to {until:g} s")
    if start >= seconds or until > seconds + _LATE_S:
        raise DataError(f"its part of {start:g} to {until:g} s is not in it: it has {seconds:g} s")
    until = min(until, seconds)
    if until - start > MAX_SECONDS:
        raise DataError(f"longer than {MAX_SECONDS:,} s ({until - start:,.0f} s); name parts of it by start and end")
    return start, until


def _blocks(file: SoundFile, first: int, last: int, size: int = 0) -> Iterator[np.ndarray]:
    """Yield float32 [n, channels] from frame `first` up to `last`; DataError when they end before that.

    A block has `size` frames, by default few blocks are needed.
    """
    at = 0 if file.subtype in _NOT_SOUGHT else file.seek(first)
    size = size or max(1, _BLOCK_SAMPLES // file.channels)
    while at < last:
        block = file.read(min(size, last - at), dtype="float32", always_2d=True)
        if not len(block):
            raise DataError(f"cut short: {at / file.samplerate:.3g} of {_seconds(file):.3g} s are there")
        if at + len(block) > first:
            yield block[max(0, first - at) :]
        at += len(block)


def _mono(block: np.ndarray) -> np.ndarray:
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


def _samples(file: SoundFile, rate: int, start: float, end: float) -> np.ndarray:
    """Return the part as float32 [n] at `rate`, as it would stand in the whole file resampled; at least one sample."""
    native = file.samplerate
    common = math.gcd(native, rate)
    step = native // common  # frames of the file from where samples of both rates fall together to where they do next
    # Some more on either side, for the filter to settle on.
    margin = 0 if native == rate else math.ceil(_MARGIN * native / min(native, rate))
    begin = max(0, int(start * native) - margin) // step * step
    blocks = _blocks(file, begin, min(file.frames, math.ceil(end * native) + margin))
    samples, ahead = _joined(list(_chunks(blocks, native, rate))), begin // step * (rate // common)
    first = min(round(start * rate) - ahead, len(samples) - 1)
    return samples[first : max(first + 1, round(end * rate) - ahead)]


def _chunks(blocks: Iterator[np.ndarray], native: int, rate: int) -> Iterator[np.ndarray]:
    return map(_mono, blocks) if native == rate else _resampled(blocks, native, rate)


def _resampled(blocks: Iterator[np.ndarray], native: int, rate: int) -> Iterator[np.ndarray]:
    stream = _soxr().ResampleStream(native, rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(_mono(block))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def _soxr():
    try:
        import soxr
    except ImportError as error:
        raise MissingExtra("soxr", "sound") from error
    return soxr


def _joined(chunks: list[np.ndarray]) -> np.ndarray:
    return np.array(chunks[0]) if len(chunks) == 1 else np.concatenate(chunks)
