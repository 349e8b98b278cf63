"""What is measured: a model file of ours or anybody's, opened, with something to feed it.

Latency is that of `Subject.run`, which is onnxruntime's `session.run` and nothing else: arrays in memory that fit the
graph → arrays in memory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tledge import engine, outline, seal
from tledge.errors import ModelError
from tledge.measurement import inputs
from tledge.runtime import MANIFEST_KEY, Predictor
from tledge.schema import NodeElsewhere

_PRODUCER = b"\x12\x06tledge"  # ModelProto.producer_name = 2
BATCH_SIZES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model file that runs. `predictor` is None for one that tledge did not export.

    `digest` is the SHA-256 of the file but for its seal, `load_ms` what opening it took, `nodes_elsewhere` as in
    VerifyResult.
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
) -> Subject:
    """Open the model file at `path`; the options are those of `engine.open_session`.

    A file of ours must be whole (`Predictor`). Any other ONNX file runs as it is, data beside it included.
    Raises ModelError when there is no file or no model in it, EngineError when the provider is not there.
    """
    path, setting = Path(path), {"provider": provider, "threads": threads, "tune": tune}
    content = _read(path)
    start = time.perf_counter()
    if is_ours(content):
        predictor = Predictor(path, **setting)
        return _subject(path, content, predictor.session, _since_ms(start), predictor)
    session = engine.open_session(path, name=str(path), **setting)
    return _subject(path, content, session, _since_ms(start), None)


def is_ours(content: bytes) -> bool:
    """Return whether the bytes of a model file say that tledge wrote it, be they whole or not.

    They say so in the manifest, near the end, and at the very start, where the producer's name stands.
    """
    return MANIFEST_KEY.encode() in content or _PRODUCER in content[:16]


def _subject(path: Path, content: bytes, session: Any, load_ms: float, predictor: Predictor | None) -> Subject:
    return Subject(
        path=path,
        digest=predictor.digest if predictor else seal.digest(content),
        bytes=len(content),
        precision=predictor.manifest.precision if predictor else outline.read(content).precision,
        provider=engine.active_provider(session),
        threads=engine.threads_of(session),
        load_ms=load_ms,
        session=session,
        samples=inputs.samples(session, str(path)),
        nodes_elsewhere=engine.nodes_elsewhere(session, content),
        predictor=predictor,
    )


def _since_ms(start: float) -> float:
    return 1000 * (time.perf_counter() - start)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"Model file {path} cannot be read: {error.strerror}.", "Check the path.") from error
