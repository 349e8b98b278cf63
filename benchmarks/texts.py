"""Claim: texts are encoded by minilm_l6 at least 1.5 times as fast as by sentence-transformers on torch, same features.

    python -m benchmarks.texts --texts DIR [--json]

DIR holds trec_train.csv and trec_test.csv, with a column `text`. Both start from the same strings and end in a matrix:
tledge extracts into an empty cache, sentence-transformers encodes with its own batches and order, each on all cores.
The two run in turn, in one process. `pip install 'tledge[text]' sentence-transformers` brings what is compared.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure, processes, script
from tledge import backbones, places
from tledge.backbones import minilm
from tledge.errors import DataError
from tledge.features import FeatureStore, extract
from tledge.schema import Backbone, Sample

BAR = 1.5
ROUNDS = 5
NOTHING_TO_MEASURE = 3
TOLERANCE = 1e-4


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield how fast texts are encoded, and, where sentence-transformers is installed, how that compares."""
    if not arguments.texts:
        processes.say("Texts need --texts.")
        sys.exit(NOTHING_TO_MEASURE)
    texts = read(arguments.texts)
    backbone = backbones.load(minilm.NAME, places.cache_dir())
    stages = {"tledge": lambda: encode(texts, backbone)}
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        processes.say("sentence-transformers is left out: it is not installed.")
    else:
        theirs = SentenceTransformer(str(minilm.folder()), device="cpu")
        stages["sentence-transformers"] = lambda: theirs.encode(texts, show_progress_bar=False)
        ours = encode(texts, backbone)  # theirs have length one
        error = float(
            np.abs(ours / np.linalg.norm(ours, axis=1, keepdims=True) - stages["sentence-transformers"]()).max()
        )
        yield measure.claim("minilm_l6: largest difference of a feature", (error,) * 3, at_most=TOLERANCE)
    seconds = measure.interleave(stages, ROUNDS)
    for name, times in seconds.items():
        rate = measure.spread(len(texts) / each for each in times)
        yield measure.claim(f"minilm_l6: TREC, {len(texts):,} texts, texts a second, {name}", rate)
    if len(seconds) > 1:
        found = measure.ratio(seconds["sentence-transformers"], seconds["tledge"])
        text = f"minilm_l6: TREC, {len(texts):,} texts, sentence-transformers over tledge: at least {BAR}"
        yield measure.claim(text, found, at_least=BAR, kind="ratio")


def read(folder: Path) -> list[str]:
    """Return the texts of both files in `folder`. Raises DataError where they cannot be read."""
    try:
        files = [(folder / f"trec_{part}.csv").read_text().splitlines() for part in ("train", "test")]
        return [row["text"] for lines in files for row in csv.DictReader(lines)]
    except (OSError, KeyError) as error:
        raise DataError(f"{folder} must hold trec_train.csv and trec_test.csv ({error}).", "Check --texts.") from error


def encode(texts: Sequence[str], backbone: Backbone) -> np.ndarray:
    """Return the features of `texts`, extracted into an empty cache."""
    digests = (hashlib.sha256(text.encode()).hexdigest() for text in texts)
    samples = [Sample("", 0, digest, value=text, kind="text") for text, digest in zip(texts, digests, strict=True)]
    with tempfile.TemporaryDirectory() as folder, FeatureStore(Path(folder)) as store:
        return extract(samples, backbone, store).matrix


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where the texts are."""
    parser.add_argument("--texts", type=Path, metavar="DIR", help="trec_train.csv and trec_test.csv")


if __name__ == "__main__":
    script.main("texts", __doc__, claims, add_options)
