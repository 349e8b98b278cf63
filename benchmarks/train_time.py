"""Claim: training on ELPV takes 40 s at most, 3 s when its features are cached, and new pictures cost only themselves.

    python -m benchmarks.train_time [--json]

Whole processes, start-up and report included. "Cold" finds nothing in its cache but the converted backbone; the
picture files themselves are warm in the system's own cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import datasets, measure, processes, script

COLD_BAR_S, WARM_BAR_S = 40, 3
COLD_RUNS, WARM_RUNS = 2, 5
ADDED = 50


def claims(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the claims for a cold run, a warm one, and one with pictures added."""
    with processes.workspace() as folder:
        pictures = datasets.elpv(folder / "elpv")
        caches = [processes.new_cache(folder) for _ in range(COLD_RUNS)]
        cold = [_train(cache, pictures).seconds for cache in caches]
        warm = [_train(caches[-1], pictures).seconds for _ in range(WARM_RUNS)]
        add_mirrored(pictures, ADDED)
        counts = _train(caches[-1], pictures).document()["cache"]
    text = f"ELPV, train with nothing cached but the backbone, median of {COLD_RUNS}: at most {COLD_BAR_S} s"
    yield measure.claim(text, measure.spread(cold), at_most=COLD_BAR_S)
    text = f"ELPV, train again with all features cached, median of {WARM_RUNS}: at most {WARM_BAR_S} s"
    yield measure.claim(text, measure.spread(warm), at_most=WARM_BAR_S)
    text = f"ELPV, {ADDED} pictures added to the cached ones: exactly {ADDED} misses"
    yield {**measure.claim(text, (counts["misses"],) * 3, at_most=ADDED), "holds": counts["misses"] == ADDED}


def add_mirrored(pictures: Path, count: int) -> None:
    """Add mirror images of `count` pictures beside them: files of the same kind that no cache has seen."""
    from PIL import Image, ImageOps

    originals = sorted(pictures.glob("*/*.png"))
    for original in originals[:: max(1, len(originals) // count)][:count]:
        with Image.open(original) as image:
            ImageOps.mirror(image).save(original.with_name(f"mirrored-{original.name}"))


def _train(cache: Path, pictures: Path) -> processes.Finished:
    command = processes.tledge("train", pictures, "--out", cache / "run", "--force", "--json")
    done = processes.run(command, cache)
    processes.say(f"train: {done.seconds:.1f} s")
    return done


if __name__ == "__main__":
    script.main("train_time", __doc__, claims)
