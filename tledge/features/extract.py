"""Dataset × Backbone → Features: decode, preprocess, run once, keep.

A batch is what the cores run at a time: each worker decodes its piece of a few pictures and runs it through one shared
onnxruntime session, single-threaded, so that decoding and the network fill the cores without waiting for each other.
Every piece has the same shape, those of texts one for each length, the last one padded: a kernel may be chosen by the
number of rows, and a row must be the same bit for bit however the samples were grouped.
On a GPU, on_gpu.py does the work of a piece.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tledge import augment, engine, machine, modalities
from tledge.errors import DataError, ModelError
from tledge.features import on_gpu
from tledge.features.store import FeatureStore, Space
from tledge.reading import read
from tledge.schema import Backbone, Features, Problem, Sample

_PIECE, _PIECE_ON_GPU = 8, 32  # pictures; with 4, an int8 backbone left 3 % of the cores to dispatching and writing
Progress = Callable[[int, int], None]
_Samples = Sequence[tuple[str, Sample]]
_Done = tuple[dict[str, np.ndarray], dict[str, str]]  # by digest: features, and reasons why there are none


class _Piece(NamedTuple):
    """What a worker runs at a time: rows of one shape by their digest, as what gives them, filled up to `count`."""

    rows: list[tuple[str, Callable[[], np.ndarray]]]
    count: int


def piece_of(provider: str) -> int:
    """Return how many samples one worker runs at a time on `provider`."""
    return _PIECE if provider == "cpu" else _PIECE_ON_GPU


def space_of(backbone: Backbone, provider: str = "cpu", *, half: bool = False) -> Space:
    """Return the cache space of what `backbone` computes on `provider`, kept as float32, or float16 when `half`."""
    # float32 on a GPU differs from float32 on a CPU in the last bits, so the two do not mix.
    precision = backbone.precision if provider == "cpu" else on_gpu.precision_of(backbone)
    provider = provider.partition(",")[0]  # where nodes may go besides does not change where they go
    decides = {
        "graph": backbone.digest,
        "preprocess": asdict(backbone.preprocess),
        "conversion": modalities.READERS[backbone.preprocess.kind].revision,
        "engine": f"{provider}-{precision}",
        "piece": piece_of(provider),
        "itemsize": 2 if half else 4,
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    size = modalities.READERS[backbone.preprocess.kind].size(backbone.preprocess)
    label = f"{backbone.name} {precision} {size} {provider}"
    return Space(digest, label, backbone.dimension, 2 if half else 4)


def key_of(sample: Sample) -> str:
    """Return the digest under which the features of `sample`, or of its part or augmented view, are kept."""
    if not sample.view and sample.part is None:
        return sample.digest
    part = f" {sample.part}" if sample.part else ""
    return hashlib.sha256(f"{sample.digest} {sample.view} {augment.REVISION}{part}".encode()).hexdigest()


def extract(
    samples: Sequence[Sample],
    backbone: Backbone,
    store: FeatureStore,
    *,
    provider: str = "cpu",
    half: bool = False,
    on_progress: Progress | None = None,
) -> Features:
    """Return the features of `samples`, from the cache where it has them and through the backbone where not.

    Equal samples are computed once, so `misses` counts distinct ones; each augmented view is one of its own. `half`
    keeps and returns float16. `on_progress(done, total)` is told of every piece, in distinct samples. A kill loses the
    one batch in flight. A file that cannot be decoded, or is no longer the one that its digest names, is left out and
    listed in `skipped`. Raises OutputError when the cache is not writable, ModelError when the backbone does not load
    or gives features that are not finite.
    """
    space = space_of(backbone, provider, half=half)
    keys = [key_of(sample) for sample in samples]
    vectors = store.find(space, keys)
    missing = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in vectors}
    total = len(vectors) + len(missing)
    reasons: dict[str, str] = {}
    for computed, problems in _compute(list(missing.items()), backbone, provider):
        store.add(space, computed)
        vectors.update((key, row.astype(space.dtype, copy=False)) for key, row in computed.items())
        reasons.update(problems)
        if on_progress:
            on_progress(len(vectors) + len(reasons), total)
    return _gather(samples, keys, vectors, space, len(missing) - len(reasons), reasons)


def _compute(missing: _Samples, backbone: Backbone, provider: str) -> Iterator[_Done]:
    """Yield each piece as it is done, with no more pieces under way than keep every core busy."""
    if not missing:
        return
    size = piece_of(provider)
    if provider == "cpu" or not on_gpu.fits(backbone):
        session = engine.open_session(backbone.path, provider=provider, threads=1, name=f"Backbone {backbone.name}")
        reader = modalities.reader(backbone.preprocess, engine.metadata(session))
        pieces, workers = _pieces(missing, size, reader), machine.cores()
        yield from _overlapped(lambda piece: _run(session, piece, reader, backbone), pieces, workers)
        return
    reader, pieces = modalities.reader(backbone.preprocess), _cut(missing, size)
    with closing(on_gpu.Pipeline(backbone, provider, size, lambda sample: read(sample, reader))) as pipeline:
        yield from _overlapped(lambda samples: _run_on_gpu(pipeline, samples, backbone), pieces, on_gpu.LANES)


def _pieces(missing: _Samples, size: int, reader: modalities.Reader) -> Iterator[_Piece]:
    if not reader.even:
        return _alike(missing, size, reader)
    return (
        _Piece([(key, partial(read, sample, reader)) for key, sample in samples], size)
        for samples in _cut(missing, size)
    )


def _alike(missing: _Samples, size: int, reader: modalities.Reader) -> Iterator[_Piece]:
    """Yield pieces whose rows have one shape, each as soon as it is full; those that never are come last."""
    waiting: dict[Hashable, _Piece] = {}
    for key, sample in missing:
        load = partial(read, sample, reader)
        try:
            row = load()
            bucket, load = reader.bucket(row), partial(np.asarray, row)
        except DataError:  # told of when its piece runs
            bucket = None
        piece = waiting.setdefault(bucket, _Piece([], reader.at_a_time(bucket, size)))
        piece.rows.append((key, load))
        if len(piece.rows) == piece.count:
            yield waiting.pop(bucket)
    yield from waiting.values()


def _cut(samples: _Samples, size: int) -> Iterator[_Samples]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _overlapped(run: Callable[[Any], _Done], pieces: Iterable[Any], workers: int) -> Iterator[_Done]:
    with ThreadPoolExecutor(workers, thread_name_prefix="extract") as pool:
        running: set[Future[_Done]] = set()
        try:
            for piece in pieces:
                running.add(pool.submit(run, piece))
                if len(running) > workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(session: Any, piece: _Piece, reader: modalities.Reader, backbone: Backbone) -> _Done:
    loaded: dict[str, np.ndarray] = {}
    reasons: dict[str, str] = {}
    for key, load in piece.rows:
        try:
            loaded[key] = load()
        except DataError as error:
            reasons[key] = error.message
    if not loaded:
        return {}, reasons
    rows = session.run(["features"], reader.feed(list(loaded.values()), piece.count))[0][: len(loaded)]
    _check_finite(rows, backbone, "Use another backbone." if backbone.precision != "fp16" else "Use --precision fp32.")
    return dict(zip(loaded, rows, strict=True)), reasons


def _run_on_gpu(pipeline: on_gpu.Pipeline, samples: _Samples, backbone: Backbone) -> _Done:
    rows, reasons = pipeline.run([sample for _, sample in samples])
    done = [(key, row, reason) for (key, _), row, reason in zip(samples, rows, reasons, strict=True)]
    vectors = {key: row for key, row, reason in done if reason is None}
    _check_finite(np.array(list(vectors.values())), backbone, "Use another backbone, or --provider cpu.")
    return vectors, {key: reason for key, _, reason in done if reason is not None}


def _check_finite(rows: np.ndarray, backbone: Backbone, hint: str) -> None:
    if not np.isfinite(rows).all():
        raise ModelError(f"Backbone {backbone.name} must give finite features, found NaN or infinity.", hint)


def _gather(
    samples: Sequence[Sample],
    keys: Sequence[str],
    vectors: dict[str, np.ndarray],
    space: Space,
    misses: int,
    reasons: dict[str, str],
) -> Features:
    kept = [i for i, key in enumerate(keys) if key in vectors]
    matrix = np.empty((len(kept), space.dimension), space.dtype)
    for row, i in zip(matrix, kept, strict=True):
        row[:] = vectors[keys[i]]
    lost = tuple(Problem(s.path, reasons[key]) for s, key in zip(samples, keys, strict=True) if key not in vectors)
    return Features(tuple(samples[i] for i in kept), matrix, len(kept) - misses, misses, lost)
