"""Whether what is asked of a head can be had, found out before hours of work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from types import ModuleType
from typing import get_args

from tledge.errors import MissingExtra, TledgeError, did_you_mean
from tledge.schema import ClassWeight, HeadOptions, Optimizer

_FOR_ALL = {"class_weight"}
_FLAGS = {"learning_rate": "--learning-rate", "batch_size": "--batch-size"}


def check(
    kind: str,
    module: ModuleType,
    options: HeadOptions,
    classes: int | Sequence[str] | None = None,
    multilabel: bool | None = None,
) -> None:
    """Raise TledgeError unless a head of `kind`, made by `module`, can do what `options` say for such classes."""
    _check_words(options)
    _check_numbers(options)
    for option in fields(HeadOptions):
        asked = getattr(options, option.name)
        if asked is not None and option.name not in _FOR_ALL and option.name not in module.USES:
            flag = _FLAGS.get(option.name, f"--{option.name}")
            raise TledgeError(
                f"{flag} says nothing to the head '{kind}'.", f"Leave it out, or {_who_uses(option.name)}."
            )
    for package in module.NEEDS:
        if find_spec(package) is None:
            raise MissingExtra(f"{package} (needed to fit the head '{kind}')", "train")
    _check_labels(kind, module, multilabel)
    _check_classes(kind, options, classes)


def _who_uses(option: str) -> str:
    return "use --head binary" if option == "positive" else "use --head mlp"


def _check_words(options: HeadOptions) -> None:
    if options.class_weight not in get_args(ClassWeight):
        hint = did_you_mean(options.class_weight, get_args(ClassWeight))
        raise TledgeError(f"There is no class weight called '{options.class_weight}'.", hint)
    if options.optimizer is not None and options.optimizer not in get_args(Optimizer):
        hint = did_you_mean(options.optimizer, get_args(Optimizer))
        raise TledgeError(f"There is no optimizer called '{options.optimizer}'.", hint)


def _check_numbers(options: HeadOptions) -> None:
    if any(width < 1 for width in options.hidden or ()):
        raise TledgeError(f"Hidden layers must have one unit at least, got {options.hidden}.", "Use --hidden 256.")
    if options.dropout is not None and not 0 <= options.dropout < 1:
        raise TledgeError(f"Dropout must lie between 0 and 1, got {options.dropout:g}.", "Use 0.5, for instance.")
    if options.dropout and options.hidden == ():
        raise TledgeError("Dropout stands behind hidden layers, and there are to be none.", "Leave out --dropout.")
    rate = options.learning_rate
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise TledgeError(f"The learning rate must be above 0, got {rate:g}.", "Use 0.001, for instance.")
    for name in ("epochs", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise TledgeError(f"The {name.replace('_', ' ')} must be 1 at least, got {value}.")


def _check_labels(kind: str, module: ModuleType, multilabel: bool | None) -> None:
    if multilabel is None:
        return
    if multilabel and not module.MULTILABEL:
        raise TledgeError(
            f"The samples have any number of labels, and the head '{kind}' gives one.", "Use --head multilabel."
        )
    if module.MULTILABEL and not multilabel:
        raise TledgeError(
            f"The samples have one label each, and the head '{kind}' gives any number.", "Use --head linear."
        )


def _check_classes(kind: str, options: HeadOptions, classes: int | Sequence[str] | None) -> None:
    if classes is None:
        return
    names = () if isinstance(classes, int) else tuple(classes)
    count = classes if isinstance(classes, int) else len(names)
    if kind == "binary" and count != 2:
        raise TledgeError(f"The head 'binary' tells two classes apart, found {count}.", "Use --head linear.")
    if names and options.positive is not None and options.positive not in names:
        raise TledgeError(f"There is no class called '{options.positive}'.", did_you_mean(options.positive, names))
