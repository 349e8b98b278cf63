"""What `--sweep` asks for: axes, and the values of each."""

from __future__ import annotations

from collections.abc import Iterable

from tledge import engine, machine
from tledge.errors import TledgeError, did_you_mean

AXES = ("threads", "batch", "precision", "provider", "preset")
_MOST_THREADS = 64  # or one per core, if there are more
_MOST_SAMPLES, _DIGITS = 1024, 10
_GRAMMAR = "Values stand with ':' between them: --sweep threads=1:2:4,batch=1:8."


def read(text: str) -> dict[str, tuple[str, ...]]:
    """Return the axes named in `text`, such as `threads,batch=1:8`, each with its values, none where none are given.

    Raises TledgeError for an axis that there is not, one that is named twice, and an empty value.
    """
    axes: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        name, given, values = part.strip().partition("=")
        if name not in AXES:
            raise TledgeError(f"'{name}' is no axis of a sweep.", f"{did_you_mean(name, AXES)} {_GRAMMAR}")
        if name in axes:
            raise TledgeError(f"An axis is swept once, '{name}' is named twice.", _GRAMMAR)
        axes[name] = tuple(dict.fromkeys(value.strip() for value in values.split(":"))) if given else ()
        if "" in axes[name]:
            raise TledgeError(f"Every value of '{name}' must say something, found '{part.strip()}'.", _GRAMMAR)
    return axes


def check_threads(threads: int) -> None:
    """Raise TledgeError for a number of threads that helps nobody."""
    most = max(_MOST_THREADS, machine.cores())
    if not 1 <= threads <= most:
        raise TledgeError(f"Threads must be between 1 and {most}, got {threads}.")


def threads(values: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers of threads in `values`, or those worth trying here: up to one per core."""
    found = tuple(_number("threads", value) for value in values)
    for each in found:
        check_threads(each)
    return found or worth_trying(machine.cores())


def worth_trying(cores: int) -> tuple[int, ...]:
    """Return every number of threads up to four, powers of two, half of `cores` (which may be hyperthreads), and all.

    None is above `cores`.
    """
    powers = {2**k for k in range(cores.bit_length())}
    return tuple(sorted(each for each in {1, 2, 3, 4, *powers, cores // 2, cores} if 0 < each <= cores))


def batches(values: Iterable[str], default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the batch sizes in `values`, else `default`."""
    found = tuple(_number("batch", value) for value in values)
    for each in found:
        if not 1 <= each <= _MOST_SAMPLES:
            raise TledgeError(f"A batch must have between 1 and {_MOST_SAMPLES} samples, got {each}.")
    return found or default


def providers(values: Iterable[str], default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the providers in `values`, in which `+` stands for the comma of `cuda,cpu`; else `default`.

    One that is known but not active here is no error: it does not run, and its rows will say so.
    """
    found = tuple(value.replace("+", ",") for value in values)
    known = tuple(name for name in engine.PROVIDERS if name != "auto")
    for word in (word for each in found for word in each.split(",")):
        if word not in known:
            raise TledgeError(f"There is no provider called '{word}' to sweep.", did_you_mean(word, known))
    return found or default


def presets(values: Iterable[str]) -> tuple[str, ...]:
    """Return the presets in `values`, else all of `engine.PRESETS`."""
    found = tuple(values)
    for each in found:
        if each not in engine.PRESETS:
            raise TledgeError(f"There is no preset called '{each}'.", did_you_mean(each, engine.PRESETS))
    return found or tuple(engine.PRESETS)


def _number(axis: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < _DIGITS):
        raise TledgeError(f"Values of '{axis}' must be whole numbers, got '{value}'.", _GRAMMAR)
    return int(value)
