"""What a source of data found, before labels are numbered and splits are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from tledge.schema import Problem, Split


@dataclass(frozen=True, slots=True)
class Picture:
    """One usable file, the class it stands under, and its split where the source names one.

    `digest` is the SHA-256 of the file's bytes, in hex.
    """

    path: str
    class_name: str
    split: Split | None
    digest: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The usable pictures of a source in an order that depends on their names only, and what was left out."""

    pictures: tuple[Picture, ...]
    skipped: tuple[Problem, ...]
