"""`tledge listen`: a model of sounds over a stream, and when it heard what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tledge import places
from tledge.commands.listening import pcm
from tledge.commands.listening.hearing import Hearing
from tledge.commands.listening.settings import SMOOTH, settings
from tledge.commands.listening.windows import Window, windows
from tledge.decode_sound import at_rate, stream_sound
from tledge.errors import DataError, ModelError, TledgeError
from tledge.runtime import Predictor
from tledge.schema import ListenResult, SoundEvent, SoundSpec

STDIN = "-"


def listen(
    model: str | Path,
    input: str | Path | BinaryIO = STDIN,
    *,
    hop: float | None = None,
    smooth: int = SMOOTH,
    on: float | None = None,
    off: float | None = None,
    min_seconds: float = 0.0,
    labels: Sequence[str] = (),
    ignore: Sequence[str] = (),
    rate: int | None = None,
    channels: int | None = None,
    encoding: str | None = None,
    provider: str = "auto",
    on_event: Callable[[SoundEvent], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> ListenResult:
    """Run `model` on windows of a stream, `hop` seconds apart (by default a twelfth of a window), until it ends.

    `input` is a sound file of any length, or "-", standard input, or an open binary file that gives raw samples:
    `encoding` s16le (the default) or f32le, `rate` (the model's) a second, `channels` (1) interleaved. A file is read
    in pieces; of raw samples whatever is there is taken at once, and none is left out when the work is late.

    A score is the mean over the last `smooth` windows, and stands for the middle of them. An event of a class begins
    when its score rises to `on` (by default the model's threshold, else 0.5) and ends when it falls below `off` (0.6 of
    `on`); those shorter than `min_seconds` are left out. `labels` are the classes to listen for, all but those in
    `ignore` by default. `on_event` gets each event when it begins, without an end, and again when it has ended.

    Ctrl-C ends the stream, and the document says so. Raises ModelError when the model takes no sounds, DataError when
    the stream cannot be read or holds nothing, TledgeError for a number or a label that cannot be.
    """
    predictor = Predictor(places.at(model), provider=provider)
    spec = predictor.manifest.preprocess
    if not isinstance(spec, SoundSpec):
        hint = "For files, use 'tledge predict'."
        raise ModelError(f"Only models of sounds can listen; {model} takes {predictor.reader.noun}s.", hint)
    words = {"labels": labels, "ignore": ignore}
    asked = settings(predictor, hop=hop, smooth=smooth, on=on, off=off, min_seconds=min_seconds, **words)
    name, raw, chunks = _opened(input, spec.rate, rate, channels, encoding)
    hearing = Hearing(predictor, asked, raw, on_event)
    if on_note and raw:
        channels_in = f", {raw.channels} channels" if raw.channels > 1 else ""
        on_note(f"Listening to {name}: {raw.encoding}, {raw.rate:,} Hz{channels_in}.")
    interrupted = _hear(hearing, windows(chunks, spec.samples, asked.hop), name)
    if not hearing.windows and not interrupted:
        raise DataError(f"A stream must hold samples, and {name} held none.", "Check what writes to it.")
    hearing.tell_late(0)
    work_s, audio_s = hearing.work_s, hearing.audio_s
    return ListenResult(
        schema_version=1,
        model=str(predictor.path),
        provider=predictor.provider,
        input=name,
        window_s=spec.samples / spec.rate,
        hop_s=asked.hop / spec.rate,
        smooth=smooth,
        on=asked.on,
        off=asked.off,
        events=tuple(hearing.events),
        windows=hearing.windows,
        audio_seconds=audio_s,
        work_seconds=work_s,
        real_time_factor=work_s / audio_s if audio_s else None,
        skipped_bytes=raw.left_bytes if raw else 0,
        interrupted=interrupted,
    )


def _hear(hearing: Hearing, stream: Iterable[Window], name: str) -> bool:
    """Hear `stream` to its end, and return whether it was the user who ended it."""
    interrupted = False
    try:
        hearing.run(stream)
    except KeyboardInterrupt:
        interrupted = True
    except DataError as error:
        raise DataError(f"{name}: {error.message}.", "Check the file, or --encoding, --rate and --channels.") from error
    hearing.finish()
    return interrupted


def _opened(
    input: str | Path | BinaryIO, wanted: int, rate: int | None, channels: int | None, encoding: str | None
) -> tuple[str, pcm.PcmStream | None, Iterator[np.ndarray]]:
    """Return what to call the stream, where its raw samples come from, and them at the rate `wanted`, float32 [n]."""
    if isinstance(input, str | Path) and str(input) != STDIN:
        if (rate, channels, encoding) != (None, None, None):
            said = "--rate, --channels and --encoding are for raw samples on standard input; a file says its own."
            raise TledgeError(said, "Leave them out.")
        path = places.at(input)
        return str(path), None, stream_sound(path, wanted)
    name = "standard input" if isinstance(input, str | Path) else str(getattr(input, "name", "the stream"))
    file = pcm.stdin() if isinstance(input, str | Path) else input
    raw = pcm.PcmStream(
        file, wanted if rate is None else rate, 1 if channels is None else channels, encoding or "s16le"
    )
    return name, raw, at_rate(raw.blocks(), raw.rate, wanted)
