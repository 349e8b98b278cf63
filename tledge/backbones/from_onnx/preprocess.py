"""Settle what a network of the user's own is fed with, from what is known of it, and say what was taken for granted."""

from __future__ import annotations

from collections.abc import Sequence

from tledge.backbones.from_onnx.input import NetworkInput
from tledge.backbones.preprocess_hints import LARGEST_INPUT, spec_of
from tledge.errors import BackboneError
from tledge.schema import BackboneOptions, InputSpec, PreprocessSpec, VectorSpec

_DEFAULT_SIZE = 224
# Those that torchvision and timm give for ImageNet, in 0..255 units and RGB order.
_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_GREY_MEAN, _GREY_STD = (0.0,), (255.0,)


def settle_input(form: NetworkInput, options: BackboneOptions, name: str) -> tuple[InputSpec, list[str]]:
    """Return how samples are prepared for a network of `form`, and what of that nobody said.

    Raises BackboneError for options that do not go with what the network takes; `name` is what to call the file.
    """
    if not form.channels:
        return _settle_vector(form, options, name)
    size, assumed = _settle_size(form, options, name)
    if form.takes_bytes:
        _refuse_normalisation(options, name)
        return PreprocessSpec(*size), [*assumed, *_assume_order(form, options)]
    mean, std, said = _settle_normalisation(form, options)
    return spec_of(options, *size, mean, std), [*assumed, *said, *_assume_order(form, options)]


def _settle_vector(form: NetworkInput, options: BackboneOptions, name: str) -> tuple[VectorSpec, list[str]]:
    length = form.width or 0
    if not 0 < length <= LARGEST_INPUT**2:
        raise BackboneError(f"{name} takes vectors of {length} numbers, which is not usable.", "Take another network.")
    if options.input_size is not None or options.channel_order is not None:
        raise BackboneError(
            f"{name} takes vectors of {length} numbers, so that an input size or channel order means nothing.",
            "Leave both out.",
        )
    mean, std = options.mean or (0.0,), options.std or (1.0,)
    if len(mean) + len(std) > 2:
        raise BackboneError(f"{name} takes vectors, so mean and std must be one number each.", "Give one of each.")
    assumed = [] if options.mean or options.std else ["vectors go in as they are"]
    return VectorSpec(length, float(mean[0]), float(std[0])), assumed


def _settle_size(form: NetworkInput, options: BackboneOptions, name: str) -> tuple[tuple[int, int], list[str]]:
    size, assumed = options.input_size, []
    if size is None and not (form.height or form.width):
        size, assumed = _DEFAULT_SIZE, [f"an input of {_DEFAULT_SIZE} × {_DEFAULT_SIZE} pixels"]
    height, width = size or form.height or form.width or 0, size or form.width or form.height or 0
    if not (0 < height <= LARGEST_INPUT and 0 < width <= LARGEST_INPUT):
        raise BackboneError(
            f"The input of {name} must be 1 to {LARGEST_INPUT} pixels a side, but is {height} × {width}.",
            "Give another --input-size.",
        )
    return (height, width), assumed


def _settle_normalisation(
    form: NetworkInput, options: BackboneOptions
) -> tuple[Sequence[float], Sequence[float], list[str]]:
    """Return mean and std where `options` have none, in the network's order, and what is assumed by that."""
    if options.mean and options.std:
        return options.mean, options.std, []
    if options.mean or options.std:
        missing = "std 1" if options.mean else "mean 0"
        return options.mean or (0.0,), options.std or (1.0,), [missing]
    if form.channels == 1:
        return _GREY_MEAN, _GREY_STD, ["grey pixels in 0..1 (mean 0, std 255)"]
    step = -1 if options.channel_order == "bgr" else 1
    said = f"ImageNet's mean {_text(_IMAGENET_MEAN)} and std {_text(_IMAGENET_STD)}"
    return _IMAGENET_MEAN[::step], _IMAGENET_STD[::step], [said]


def _text(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _refuse_normalisation(options: BackboneOptions, name: str) -> None:
    if options.mean is not None or options.std is not None:
        raise BackboneError(
            f"{name} takes bytes and normalises them itself, so a mean or std cannot be given.", "Leave both out."
        )


def _assume_order(form: NetworkInput, options: BackboneOptions) -> list[str]:
    return [] if options.channel_order or form.channels == 1 else ["channels in RGB order"]
