"""Claim: extraction from JPEG files reaches 0.95 of what its two stages would give, each with its share of the cores.

    python -m benchmarks.pipeline [--json]

Decoding (read, check, decode, resample: file → model input) and the backbone are measured alone, each on all cores: of
N pictures, decoding takes D seconds and the backbone B, its session opened anew as extraction does. With n cores they
cost n · D / N and n · B / N core-seconds a picture. Of the cores that one stage takes, the other is left the rest; the
slower of the two is fastest where both are equally fast, with shares in the proportion D : B. Then either gives
N / (D + B) pictures a second. That is the ideal; extraction, which takes E seconds with its cache, its dispatch and
its waiting, reaches (D + B) / E of it. The three run in turn, in one process.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, script
from benchmarks.preprocess import photographs
from benchmarks.processes import BACKBONE
from tledge import backbones, engine, machine, modalities, places
from tledge.features import FeatureStore, extract
from tledge.features.extract import piece_of
from tledge.model.precision.quantize import quantize
from tledge.reading import read
from tledge.schema import Backbone, Sample

BAR = 0.95
ROUNDS = 11
PICTURES = 384  # a small data set; what is done once, such as opening the cache, counts in full
SIZE = (512, 384)


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claim for the backbone in fp32 and in int8."""
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), None, SIZE, PICTURES)
        samples = [Sample(str(path), 0, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
        backbone = backbones.load(BACKBONE, places.cache_dir())
        for chosen in (backbone, quantize(backbone, samples, Path(folder))):
            stages = {
                "decode": functools.partial(decode_all, samples, chosen),
                "backbone": functools.partial(run_all, chosen),
                "extract": functools.partial(extract_all, samples, chosen, Path(folder) / "cache"),
            }
            seconds = measure.interleave(stages, ROUNDS)
            for name, times in seconds.items():
                rate = measure.spread(PICTURES / each for each in times)
                yield measure.claim(f"{chosen.precision}: pictures a second, {name}", rate)
            ideal = [sum(pair) for pair in zip(seconds["decode"], seconds["backbone"], strict=True)]
            text = f"{chosen.precision}: extraction reaches {BAR} of the ideal, 0.2 MP to {BACKBONE}"
            yield measure.claim(text, measure.ratio(ideal, seconds["extract"]), at_least=BAR, kind="ratio")


def decode_all(samples: Sequence[Sample], backbone: Backbone) -> None:
    """Make every file into the backbone's input, on all cores."""
    reader = modalities.reader(backbone.preprocess)

    def load(piece: Sequence[Sample]) -> None:
        reader.feed([read(sample, reader) for sample in piece])

    size = piece_of("cpu")
    with ThreadPoolExecutor(machine.cores()) as pool:
        list(pool.map(load, [samples[at : at + size] for at in range(0, len(samples), size)]))


def run_all(backbone: Backbone) -> None:
    """Run the backbone on as many pictures, in the same pieces, on all cores."""
    session = engine.open_session(backbone.path, provider="cpu", threads=1, name=BACKBONE)
    blank = modalities.reader(backbone.preprocess).blank
    batch = np.random.default_rng(0).integers(0, 256, (piece_of("cpu"), *blank.shape), np.uint8)
    feed = {backbone.preprocess.kind: batch}
    with ThreadPoolExecutor(machine.cores()) as pool:
        list(pool.map(lambda _: session.run(["features"], feed), range(PICTURES // len(batch))))


def extract_all(samples: Sequence[Sample], backbone: Backbone, cache: Path) -> None:
    """Extract the features of every sample into an empty cache."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    with FeatureStore(cache) as store:
        found = extract(samples, backbone, store)
    assert found.misses == len(samples), f"{found.misses} of {len(samples)} files were extracted"


if __name__ == "__main__":
    script.main("pipeline", __doc__, claims)
