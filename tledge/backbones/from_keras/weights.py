"""Whose weights a backbone has: those published with it, random ones, or those of a Keras weights file.

A file holds arrays only, and only arrays are read: nothing in it is executed. It has the form of Keras 3
(`.weights.h5`) or that of Keras 2, told apart by what is in it, as both have been written under either name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from tledge.errors import BackboneError

PUBLISHED, RANDOM = "imagenet", "none"
_SEED = 0
_OLD_FORM = "layer_names"  # an attribute that only the older form has
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def settle(weights: str | None) -> str:
    """Return PUBLISHED (the default), RANDOM, or the whole path of a weights file. Raises BackboneError otherwise."""
    if weights in (None, PUBLISHED, RANDOM):
        return weights or PUBLISHED
    path = Path(weights).absolute()
    hint = f"Weights are {PUBLISHED}, {RANDOM} (random) or a Keras weights file that ends in .h5."
    if not path.is_file():
        raise BackboneError(f"There is no weights file {weights}.", hint)
    if not _starts_well(path):
        raise BackboneError(f"{weights} is no weights file of Keras.", hint)
    return str(path)


def identity(weights: str, published: str) -> str:
    """Return words that tell these settled `weights` from any others; `published` are those for PUBLISHED."""
    if weights == PUBLISHED:
        return published
    if weights == RANDOM:
        return f"random, seed {_SEED}"
    with Path(weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seed(keras: ModuleType) -> None:
    """Make the random weights of the next network the same each time."""
    keras.utils.set_random_seed(_SEED)


def read(network: Any, path: str, name: str) -> None:
    """Give the Keras model `network`, called `name`, the weights in the file `path`; BackboneError: they do not fit."""
    # Keras goes by the name, so the file gets the name that says what it is.
    with TemporaryDirectory(prefix="tledge-") as folder:
        named = Path(folder, "old.h5" if _is_old(path) else "new.weights.h5")
        named.symlink_to(path)
        try:
            network.load_weights(str(named))
        except Exception as error:  # h5py and Keras raise all kinds
            reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            raise BackboneError(
                f"The weights in {path} do not fit {name}: {reason}.",
                "They must be those of the same network without its top (include_top=False).",
            ) from error


def _is_old(path: str) -> bool:
    import h5py  # it comes with Keras

    try:
        with h5py.File(path) as file:
            return _OLD_FORM in file.attrs or "model_weights" in file
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error}.", "Check that the file is whole.") from error


def _starts_well(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE
