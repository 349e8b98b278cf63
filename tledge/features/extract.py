"""Dataset × Backbone → Features: decode, preprocess, run once, keep.

A batch is what the cores run at a time: each worker decodes its piece of a few pictures and runs it through one shared
onnxruntime session, single-threaded, so that decoding and the network fill the cores without waiting for each other.
Every piece has the same shape, the last one padded: a kernel may be chosen by the number of pictures, and a row must be
the same bit for bit however the samples were grouped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tledge import engine, machine, preprocess
from tledge.errors import DataError, ModelError
from tledge.features.store import FeatureStore, Space
from tledge.schema import Backbone, Features, Problem, Sample

_PIECE, _PIECE_ON_GPU = 4, 32  # pictures; on a CPU, pieces of 2 to 16 were equally fast
Progress = Callable[[int, int], None]
_Done = tuple[dict[str, np.ndarray], dict[str, str]]  # by digest: features, and reasons why there are none


def piece_of(provider: str) -> int:
    """Return how many pictures one worker runs at a time on `provider`."""
    return _PIECE if provider == "cpu" else _PIECE_ON_GPU


def space_of(backbone: Backbone, provider: str = "cpu") -> Space:
    """Return the cache space of what `backbone` computes on `provider`."""
    # float32 on a GPU differs from float32 on a CPU in the last bits, so the two do not mix.
    decides = {
        "graph": backbone.digest,
        "preprocess": asdict(backbone.preprocess),
        "conversion": preprocess.REVISION,
        "engine": f"{provider}-{backbone.precision}",
        "piece": piece_of(provider),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    size = f"{backbone.preprocess.width}×{backbone.preprocess.height}"
    return Space(digest, f"{backbone.name} {backbone.precision} {size} {provider}", backbone.dimension)


def extract(
    samples: Sequence[Sample],
    backbone: Backbone,
    store: FeatureStore,
    *,
    provider: str = "cpu",
    on_progress: Progress | None = None,
) -> Features:
    """Return the features of `samples`, from the cache where it has them and through the backbone where not.

    Equal files are computed once, so `misses` counts distinct pictures. `on_progress(done, total)` is told of every
    piece, in distinct pictures. A kill loses the one batch in flight. A file that cannot be decoded, or is no longer the
    one that its digest names, is left out and listed in `skipped`. Raises OutputError when the cache is not writable,
    ModelError when the backbone does not load or gives features that are not finite.
    """
    space = space_of(backbone, provider)
    vectors = store.find(space, (sample.digest for sample in samples))
    missing = list({s.digest: s for s in samples if s.digest not in vectors}.values())
    total = len(vectors) + len(missing)
    reasons: dict[str, str] = {}
    for computed, problems in _compute(missing, backbone, provider):
        store.add(space, computed)
        vectors.update(computed)
        reasons.update(problems)
        if on_progress:
            on_progress(len(vectors) + len(reasons), total)
    return _gather(samples, vectors, backbone, len(missing) - len(reasons), reasons)


def _compute(missing: Sequence[Sample], backbone: Backbone, provider: str) -> Iterator[_Done]:
    """Yield each piece as it is done, with no more pieces under way than keep every core busy."""
    if not missing:
        return
    session = engine.open_session(backbone.path, provider=provider, threads=1, name=f"Backbone {backbone.name}")
    size = piece_of(provider)
    pieces = (missing[start : start + size] for start in range(0, len(missing), size))
    workers = machine.cores()
    with ThreadPoolExecutor(workers, thread_name_prefix="extract") as pool:
        running: set[Future[_Done]] = set()
        try:
            for piece in pieces:
                running.add(pool.submit(_run, session, piece, size, backbone))
                if len(running) > workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(session: Any, piece: Sequence[Sample], size: int, backbone: Backbone) -> _Done:
    spec = backbone.preprocess
    images = np.zeros((size, spec.height, spec.width, 3), np.uint8)
    loaded: list[str] = []
    reasons: dict[str, str] = {}
    for sample in piece:
        try:
            preprocess.load_into(_contents(sample), spec, images[len(loaded)])
            loaded.append(sample.digest)
        except DataError as error:
            reasons[sample.digest] = error.message
    if not loaded:
        return {}, reasons
    rows = session.run(["features"], {"image": images})[0][: len(loaded)]
    if not np.isfinite(rows).all():
        raise ModelError(
            f"Backbone {backbone.name} must give finite features, found NaN or infinity.", "Use another backbone."
        )
    return dict(zip(loaded, rows, strict=True)), reasons


def _contents(sample: Sample) -> bytes:
    """Return the bytes of the file, which must be those that its digest was taken of: features are kept under it."""
    try:
        contents = Path(sample.path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(contents).hexdigest() != sample.digest:
        raise DataError("changed since it was listed")
    return contents


def _gather(
    samples: Sequence[Sample], vectors: dict[str, np.ndarray], backbone: Backbone, misses: int, reasons: dict[str, str]
) -> Features:
    kept = tuple(sample for sample in samples if sample.digest in vectors)
    matrix = np.empty((len(kept), backbone.dimension), np.float32)
    for row, sample in zip(matrix, kept, strict=True):
        row[:] = vectors[sample.digest]
    lost = tuple(Problem(s.path, reasons[s.digest]) for s in samples if s.digest not in vectors)
    return Features(kept, matrix, len(kept) - misses, misses, lost)
