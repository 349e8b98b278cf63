"""What is measured: a model file of ours or anybody's, opened, with something to feed it.

Latency is that of `Subject.run`, which is onnxruntime's `session.run` and nothing else: arrays in memory that fit the
graph → arrays in memory.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tledge import engine, outline, seal
from tledge.errors import DataError, ModelError
from tledge.installation import first_line
from tledge.measurement.feeding import given, inputs
from tledge.runtime import MANIFEST_KEY, Predictor
from tledge.schema import NodeElsewhere

_PRODUCER = b"\x12\x06tledge"  # ModelProto.producer_name = 2
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_MOST_QUERIES = 64


@dataclass(frozen=True, slots=True)
class Subject:
    """A model file that runs. `predictor` is None for one that tledge did not export.

    `digest` is the SHA-256 of the file but for its seal, `bytes` its size and that of weights beside it, `load_ms` what
    opening it took, `nodes_elsewhere` as in VerifyResult.
    """

    path: Path
    digest: str
    bytes: int
    precision: str
    provider: str
    threads: int
    load_ms: float
    session: Any
    samples: inputs.Samples
    nodes_elsewhere: tuple[NodeElsewhere, ...] | None
    predictor: Predictor | None = None

    def feed(self, batch: int = 1) -> inputs.Feed:
        """Return arrays for `run` that hold `batch` samples, which must be one of `batch_sizes` or any if open."""
        return self.samples.feed(batch)

    def queries(self, size: int, batch: int) -> list[tuple[inputs.Feed, ...]]:
        """Return different queries of `size` samples, each as the feeds of one run after the other, `batch` in each.

        There is one where values are made up; of the user's own there are as many as their samples fill, 64 at most.
        A graph of a fixed batch runs whole batches, however few samples were asked for.
        """
        runs = math.ceil(size / batch)
        count = min(_MOST_QUERIES, math.ceil(self.samples.different(batch) / runs))
        feed = self.samples.feed
        return [tuple(feed(batch, number * runs + run) for run in range(runs)) for number in range(count)]

    def refuses(self, batch: int) -> str:
        """Return why the graph cannot run `batch` samples at a time, in a line; nothing if it can."""
        try:
            self.run(self.feed(batch))
        except Exception as error:  # onnxruntime's exception classes share no base but Exception
            return first_line(error)
        return ""

    def run(self, feed: inputs.Feed) -> list[np.ndarray]:
        """Return what the graph makes of `feed`, from memory to memory."""
        return self.session.run(None, feed)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """How many samples are worth trying at a time: BATCH_SIZES, or the one number that the graph is fixed to."""
        return BATCH_SIZES if self.samples.batch is None else (self.samples.batch,)


def open_subject(
    path: str | Path,
    *,
    provider: str = "auto",
    threads: int | None = None,
    tune: dict[str, str] | None = None,
    input_file: str | Path | None = None,
) -> Subject:
    """Open the model file at `path`; the options are those of `engine.open_session`.

    A file of ours must be whole (`Predictor`). Any other ONNX file runs as it is, weights beside it included, and is
    run once, to see that it takes what it will be fed: the samples in `input_file`, else values made up.
    Raises ModelError when there is no file, no model in it, or it fails on made-up values; EngineError when the
    provider is not there; DataError when the samples in `input_file` do not fit.
    """
    path, setting = Path(path), {"provider": provider, "threads": threads, "tune": tune}
    content = _read(path)
    outlined = outline.read(content)
    arrays, told = (given.read(Path(input_file)) if input_file else None), ()
    beside = _beside(path, outlined)
    start = time.perf_counter()
    predictor = Predictor(path, **setting) if is_ours(content) else None
    session = predictor.session if predictor else engine.open_session(path, name=str(path), **setting)
    load_ms = 1000 * (time.perf_counter() - start)
    if predictor and not arrays:
        arrays, told = _examples(predictor)
    subject = Subject(
        path=path,
        digest=predictor.digest if predictor else seal.digest(content),
        bytes=len(content) + sum(file.stat().st_size for file in beside),
        precision=predictor.manifest.precision if predictor else outlined.precision,
        provider=engine.active_provider(session),
        threads=engine.threads_of(session),
        load_ms=load_ms,
        session=session,
        samples=inputs.samples(session, str(path), arrays, str(input_file) if input_file else None, told),
        nodes_elsewhere=engine.nodes_elsewhere(session, content),
        predictor=predictor,
    )
    if input_file or not predictor:
        _try(subject)
    return subject


def _examples(predictor: Predictor) -> tuple[inputs.Feed, tuple[str, ...]]:
    try:
        return predictor.reader.examples(predictor.manifest.golden)
    except (ValueError, TypeError, OSError) as error:
        raise ModelError(f"{predictor.path} holds a golden sample that cannot be read.", "Export it again.") from error


def is_ours(content: bytes) -> bool:
    """Return whether the bytes of a model file say that tledge wrote it, be they whole or not.

    They say so in the manifest, near the end, and at the very start, where the producer's name stands.
    """
    return MANIFEST_KEY.encode() in content or _PRODUCER in content[:16]


def _try(subject: Subject) -> None:
    """Raise ModelError, or DataError for the user's own samples, when the graph does not run."""
    reason = subject.refuses(subject.batch_sizes[0])
    if reason and subject.samples.source:
        source = subject.samples.source
        raise DataError(f"{subject.path} fails on the samples of {source}: {reason}.", "Check their values and sizes.")
    if reason:
        assumed = f" (assumed: {', '.join(subject.samples.assumed)})" if subject.samples.assumed else ""
        raise ModelError(
            f"{subject.path} fails on values made up for its inputs{assumed}: {reason}.",
            "Give samples of your own with '--input FILE.npz'.",
        )


def _beside(path: Path, outlined: outline.Outline) -> list[Path]:
    """Return the files that hold weights of the model at `path`. Raises ModelError for any outside of its folder.

    Newer versions of onnxruntime refuse these too; older ones would read whatever file the model names.
    """
    # Where the model is a link, as downloads are kept by some, its weights are beside the file it leads to.
    folders, found = (path.parent.resolve(), path.resolve().parent), []
    for place in outlined.beside:
        file = Path(folders[0], place.replace("\0", "")).resolve()
        if not any(file.is_relative_to(folder) for folder in folders):
            raise ModelError(
                f"{path} must keep its weights in its own folder, found them at '{place}'.",
                "Save it again with its weights beside it.",
            )
        if not file.is_file():
            raise ModelError(f"{path} keeps weights in '{place}', which is missing.", "Copy that file beside it.")
        found.append(file)
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"Model file {path} cannot be read: {error.strerror}.", "Check the path.") from error
