"""The files that stand for the precisions of a model: an ONNX file has the one that it was exported with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tledge import measurement, places
from tledge.errors import TledgeError
from tledge.schema import Manifest, Precision

_WORDS = get_args(Precision)
_START = 16  # bytes that tell whether a file may be ours


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file to be swept; `manifest` is None for one that tledge did not export."""

    path: Path
    precision: str
    bytes: int
    manifest: Manifest | None


def described(subject: measurement.Subject) -> ModelFile:
    """Return what is to be known of an opened model file."""
    manifest = subject.predictor.manifest if subject.predictor else None
    return ModelFile(subject.path, subject.precision, subject.bytes, manifest)


def files(
    values: Iterable[str], model: ModelFile, open_model: Callable[..., measurement.Subject] = measurement.open_subject
) -> tuple[ModelFile, ...]:
    """Return `model` and what `values` name: other files, or precisions of files beside it.

    Without values, every other precision of the same network that lies beside it. Raises TledgeError for a file that
    is no model, and for a precision that is not there.
    """
    values = tuple(values)
    beside = beside_it(model) if not values or not set(values).isdisjoint(_WORDS) else {}
    chosen = [_chosen(value, model, beside, open_model) for value in values] or list(beside.values())
    return tuple({each.path: each for each in (model, *chosen)}.values())


def beside_it(model: ModelFile) -> dict[str, ModelFile]:
    """Return the files of ours in the folder of `model` that hold the same network in other precisions.

    The same is: backbone, kind of head, classes, preprocessing, and the data it was trained on. Of each precision, the
    newest counts.
    """
    found = [each for each in _of_ours(model.path.parent) if _same_network(each, model)]
    found.sort(key=lambda each: each.manifest.created if each.manifest else "")
    return {each.precision: each for each in found if each.precision != model.precision}


def accuracies(found: Iterable[ModelFile]) -> bool:
    """Return whether the accuracies that `found` tell of themselves compare: there are several, of the same samples."""
    manifests = [each.manifest for each in found]
    tested = {(each.data_fingerprint, each.test_samples) if each else None for each in manifests}
    return len(manifests) > 1 and len(tested) == 1 and None not in tested


def _chosen(
    value: str, model: ModelFile, beside: dict[str, ModelFile], open_model: Callable[..., measurement.Subject]
) -> ModelFile:
    if value == model.precision or places.at(value).resolve() == model.path.resolve():
        return model
    if value in beside:
        return beside[value]
    if value in _WORDS:
        raise TledgeError(
            f"No {value} file of the same network lies beside {model.path}.",
            "Name one, as in --sweep precision=other.onnx, or make one with 'tledge export'.",
        )
    return described(open_model(places.at(value), provider="cpu", threads=1))


def _of_ours(folder: Path) -> Iterator[ModelFile]:
    for path in sorted(folder.glob("*.onnx")):
        try:
            with path.open("rb") as file:
                ours = measurement.is_ours(file.read(_START))
            if ours:
                yield described(measurement.open_subject(path, provider="cpu", threads=1))
        except (OSError, TledgeError):  # what lies there unasked need not be whole
            continue


def _same_network(one: ModelFile, other: ModelFile) -> bool:
    ours, theirs = one.manifest, other.manifest
    return ours is not None and theirs is not None and _identity(ours) == _identity(theirs)


def _identity(manifest: Manifest) -> tuple[object, ...]:
    return manifest.backbone, manifest.head, manifest.classes, manifest.preprocess, manifest.data_fingerprint
