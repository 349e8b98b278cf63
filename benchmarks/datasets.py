"""Lay out a data set as a folder of pictures per class.

    python -m benchmarks.datasets elpv DIR

ELPV: 2,624 electroluminescence images of solar cells, 300 × 300, from the package `elpv-dataset`. Experts gave each
the probability (0, 1/3, 2/3 or 1) that it is defective; from one half on, it counts as defective here.
Source: Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
Imagery, EU PVSEC 2018; Deitsch et al., Automatic Classification of Defective Photovoltaic Module Cells, 2019.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import random
import shutil
import sys
from pathlib import Path

import numpy as np

from tledge import places
from tledge.data.sources import idx
from tledge.errors import DataError, MissingExtra, TledgeError

DEFECTIVE, FUNCTIONAL = "defective", "functional"
_THRESHOLD = 0.5


def elpv(folder: Path, most: int | None = None) -> Path:
    """Copy the ELPV pictures to `folder`/defective and `folder`/functional and return `folder`.

    With `most`, only the first so many of each class. What is there already stays. Raises MissingExtra without the
    package, DataError when it does not hold what it should, OutputError when `folder` cannot be written.
    """
    source = _package("elpv_dataset", "elpv-dataset") / "data"
    by_class: dict[str, list[Path]] = {DEFECTIVE: [], FUNCTIONAL: []}
    for name, probability, _ in _labels(source / "labels.csv"):
        by_class[DEFECTIVE if probability >= _THRESHOLD else FUNCTIONAL].append(source / name)
    for name, pictures in by_class.items():
        _copy(pictures[:most], folder / name)
    return folder


def elpv_split(pictures: Path, folder: Path, seed: int, test_fraction: float = 0.25) -> Path:
    """Link the `pictures` that `elpv` laid out into `folder`/train and `folder`/test and return `folder`.

    Of each class and type of cell (mono, poly), `test_fraction` are drawn for the test.
    """
    labels = _labels(_package("elpv_dataset", "elpv-dataset") / "data" / "labels.csv")
    groups: dict[tuple[str, str], list[str]] = {}
    for name, probability, cell in labels:
        groups.setdefault((DEFECTIVE if probability >= _THRESHOLD else FUNCTIONAL, cell), []).append(Path(name).name)
    rng = random.Random(seed)
    for (label, _), names in sorted(groups.items()):
        rng.shuffle(names)
        tested = round(test_fraction * len(names))
        for part, chosen in (("test", names[:tested]), ("train", names[tested:])):
            place = folder / part / label
            place.mkdir(parents=True, exist_ok=True)
            for name in chosen:
                (place / name).hardlink_to(pictures / label / name)
    return folder


def flowers(source: Path, folder: Path) -> Path:
    """Link the pictures of `source`/train|val/class/… into `folder`/class and return `folder`, for splits to be drawn.

    Raises DataError when there are none, OutputError when `folder` cannot be written.
    """
    pictures = [path for split in ("train", "val") for path in sorted((source / split).glob("*/*")) if path.is_file()]
    if not pictures:
        raise DataError(f"{source} must hold train/ and val/ with a folder for each class.", "Check the path.")
    with places.writing(folder):
        for picture in pictures:
            place = folder / picture.parent.name / f"{picture.parent.parent.name}-{picture.name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(picture.resolve())
    return folder


def fashion_mnist(source: Path, file: Path, part: int = 0, train: int = 5000, test: int = 2000) -> Path:
    """Write the `part`-th `train` and `test` rows of Fashion-MNIST's two sets into the .npz `file` and return it.

    `source` holds the four idx files, gzipped or not. Parts share no row. Raises DataError when one is missing, damaged
    or too short, OutputError when `file` cannot be written.
    Source: Xiao, Rasul and Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms.
    """
    arrays: dict[str, np.ndarray] = {}
    items = idx.scan(source).items
    for split, name, count in (("train", "train", train), ("test", "test", test)):
        chosen = [item for item in items if item.split == split][part * count : (part + 1) * count]
        if len(chosen) < count:
            raise DataError(f"{source} has no part {part} of {count} samples in {split}.", "Get the files again.")
        arrays[f"x_{name}"] = np.stack([item.value for item in chosen])
        arrays[f"y_{name}"] = np.array([int(item.class_names[0]) for item in chosen])
    content = io.BytesIO()
    np.savez(content, **arrays)
    places.write_whole(file, content.getvalue())
    return file


def _package(module: str, distribution: str) -> Path:
    """Return the folder of an installed package without importing it: ELPV's own module would load every picture."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(f"The package {distribution}", "demo")
    return Path(spec.submodule_search_locations[0])


def _labels(table: Path) -> list[tuple[str, float, str]]:
    """Return (path, probability, type) of each row; the columns are separated by blanks."""
    try:
        rows = [line.split() for line in table.read_text().splitlines() if line.strip()]
        return [(row[0], float(row[1]), row[2]) for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{table} must list the pictures of ELPV ({error}).", "Install elpv-dataset again.") from error


def _copy(pictures: list[Path], folder: Path) -> None:
    with places.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        target = folder / picture.name
        try:
            size = picture.stat().st_size
        except OSError as error:
            raise DataError(f"{picture} is missing.", "Install elpv-dataset again.") from error
        if not target.is_file() or target.stat().st_size != size:  # a copy that was cut short is made again
            with places.writing(target):
                shutil.copyfile(picture, target)


_DATASETS = {"elpv": elpv}


def main() -> None:
    """Lay out the data set that was asked for, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datasets", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=_DATASETS)
    parser.add_argument("folder", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    try:
        folder = _DATASETS[arguments.name](arguments.folder)
    except TledgeError as error:
        sys.exit(_fail(error))
    counts = {each.name: sum(1 for _ in each.iterdir()) for each in sorted(folder.iterdir()) if each.is_dir()}
    print(f"{folder}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


def _fail(error: TledgeError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    main()
