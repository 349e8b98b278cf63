"""A folder of samples, pictures, sounds or texts: `DIR/class/…`, or `DIR/train|val|test/class/…`, at any depth below.

- Splits are called `train` (`training`), `val` (`valid`, `validation`) and `test` (`testing`), in any case of letters.
  A lone folder `train` that holds no folder is a class like any other: cars, planes and trains can be told apart.
- Hidden files and folders (names with a leading dot, Thumbs.db, desktop.ini, __MACOSX) are passed over in silence.
  Every other file that is no usable sample is listed with its reason. Contents say what a file is, not its name; but
  texts are files that end in .txt.
- Symbolic links are followed; a folder is entered once per class, so links in a circle come to an end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tledge.data.listing import SPLITS, Item, Listing
from tledge.data.sources.contents import look_into_all, of_one_kind
from tledge.errors import DataError
from tledge.schema import Problem, Split

_HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")
_NO_CLASS = "in no class folder"
_NO_SAMPLE = "class folder without a usable sample"
_HINT = "Put the samples in one folder per class: DIR/cat/…, DIR/dog/…"


class _Entry(NamedTuple):
    path: str
    class_name: str | None
    split: Split | None


def accepts(path: Path) -> bool:
    """Tell whether `path` is a folder."""
    return path.is_dir()


def scan(root: Path) -> Listing:
    """List every sample below `root` with its class and split, sorted by path; nothing is decoded.

    A class folder without a usable sample is listed with the files that were left out. Raises DataError when no usable
    sample stands in a class folder, or when splits and classes stand side by side.
    """
    skipped: list[Problem] = []
    class_folders, files = _lay_out(root, skipped)
    for folder in class_folders:
        files += [folder._replace(path=path) for path in _files_below(root, folder, skipped)]
    samples = _look_into(sorted(files, key=lambda file: file.path), skipped)
    if not samples:
        raise _nothing_usable(root, skipped)
    used = {(sample.class_names[0], sample.split) for sample in samples}
    idle = [folder for folder in class_folders if (folder.class_name, folder.split) not in used]
    skipped += [Problem(folder.path, _NO_SAMPLE) for folder in idle]
    return Listing(tuple(samples), tuple(sorted(skipped, key=lambda problem: problem.path)))


def _look_into(files: list[_Entry], skipped: list[Problem]) -> list[Item]:
    samples = []
    contents = of_one_kind(look_into_all([file.path for file in files]))
    for file, content in zip(files, contents, strict=True):
        if content.digest and file.class_name is not None:
            samples.append(Item(file.path, (file.class_name,), file.split, content.digest, kind=content.kind))
        else:
            skipped.append(Problem(file.path, content.reason or _NO_CLASS))
    return samples


def _nothing_usable(root: Path, skipped: list[Problem]) -> DataError:
    loose = [problem.path for problem in skipped if problem.reason == _NO_CLASS]
    if loose:
        return DataError(f"{root} holds samples but no class folders (the first is {loose[0]}).", _HINT)
    if skipped:
        return DataError(f"{root} holds no usable sample ({skipped[0].path}: {skipped[0].reason}).", _HINT)
    return DataError(f"{root} holds no pictures, sounds or texts.", _HINT)


# ── Layout ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lay_out(root: Path, skipped: list[Problem]) -> tuple[list[_Entry], list[_Entry]]:
    """Return the class folders, and the files that stand beside or above them in no class."""
    folders, loose = _list(str(root), skipped)
    splits = _split_folders(root, folders)
    files = [_Entry(file.path, None, None) for file in loose]
    if not splits:
        return [_Entry(folder.path, folder.name, None) for folder in folders], files
    class_folders = []
    for folder in folders:
        if folder.name not in splits:
            skipped.append(Problem(folder.path, "neither train, val nor test"))
            continue
        below, loose = _list(folder.path, skipped)
        class_folders += [_Entry(each.path, each.name, splits[folder.name]) for each in below]
        files += [_Entry(file.path, None, splits[folder.name]) for file in loose]
    return class_folders, files


def _split_folders(root: Path, folders: list[os.DirEntry[str]]) -> dict[str, Split]:
    """Return the split that each folder's name stands for; nothing when the folders are classes."""
    splits = {folder.name: SPLITS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLITS}
    others = [folder.name for folder in folders if folder.name not in splits]
    if not others:
        return splits
    trains = [folder for folder in folders if splits.get(folder.name) == "train"]
    if any(_list(folder.path, [])[0] for folder in trains):
        return splits
    if len(trains) == len(splits):  # nothing but classes, one of which may be called train
        return {}
    raise DataError(
        f"{root} holds splits ({', '.join(splits)}) and classes ({', '.join(others[:3])}) side by side.",
        "Move the class folders into train/, or name the test folder with --test-data.",
    )


# ── Walk ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _files_below(root: Path, top: _Entry, skipped: list[Problem]) -> list[str]:
    entered = {_identity(root), _identity(Path(top.path).parent)}
    waiting, files = [top.path], []
    while waiting:
        folder = waiting.pop()
        identity = _identity(Path(folder))
        if identity in entered:
            skipped.append(Problem(folder, "link to a folder that was read already"))
            continue
        entered.add(identity)
        below, beside = _list(folder, skipped)
        waiting += [entry.path for entry in below]
        files += [entry.path for entry in beside]
    return files


def _identity(folder: Path) -> tuple[int, int] | str:
    try:
        status = folder.stat()
    except OSError:  # gone, or not ours to read: listing it will tell why
        return str(folder)
    return status.st_dev, status.st_ino


def _list(folder: str, skipped: list[Problem]) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Return the folders and the files in `folder`, by name, without what is hidden."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        skipped.append(Problem(folder, f"cannot be read ({error.strerror})"))
        return [], []
    for entry in visible:
        kind = _kind(entry)
        if kind == "folder":
            folders.append(entry)
        elif kind == "file":
            files.append(entry)
        else:
            skipped.append(Problem(entry.path, kind))
    return folders, files


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN


def _kind(entry: os.DirEntry[str]) -> str:
    """Return "folder", "file", or what keeps the entry from being either."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError as error:  # links in a circle
        return f"cannot be read ({error.strerror})"
    return "broken link" if entry.is_symlink() else "not a regular file"
