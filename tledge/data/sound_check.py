"""Listen to every sound once: which cannot be used, and which are silent or clipped.

That is done when files are listed, and not when features are extracted, because features are kept: a later run would
find nothing to remark on. It costs a decoding, without resampling: on two cores some 20 s for 100,000 WAV files of one
second, and 60 s for FLAC, a small part of what their first extraction takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tledge import machine
from tledge.data.listing import Item, Listing
from tledge.decode_sound import gauge
from tledge.errors import DataError
from tledge.schema import Problem

_SILENT_DBFS = -60
_CLIPPED = 0.001  # of all samples at full scale; a sound that just reaches it has a handful
_Key = tuple[str, tuple[float, float] | None]


def listened(listing: Listing) -> Listing:
    """Return `listing` without the sounds that cannot be decoded, and with remarks on those that are odd to hear.

    Raises DataError when none is left, MissingExtra when there are sounds, but nothing to decode them with.
    """
    reasons, remarks = _verdicts({_key(item) for item in listing.items if _is_sound_file(item)})
    kept = tuple(item for item in listing.items if _key(item) not in reasons)
    lost = _problems(listing.items, reasons)
    if lost and not kept:
        raise DataError(f"No sound can be decoded ({lost[0].path}: {lost[0].reason}).", "Replace the files.")
    heard = _problems(kept, remarks)
    return replace(listing, items=kept, skipped=(*listing.skipped, *lost), remarks=(*listing.remarks, *heard))


def _is_sound_file(item: Item) -> bool:
    return item.kind == "audio" and item.value is None


def _key(item: Item) -> _Key:
    return item.path, item.part


def _problems(items: Iterable[Item], said: dict[_Key, str]) -> list[Problem]:
    return [
        Problem(item.place or item.path, f"{item.path}: {said[_key(item)]}" if item.place else said[_key(item)])
        for item in items
        if _key(item) in said
    ]


def _verdicts(keys: Iterable[_Key]) -> tuple[dict[_Key, str], dict[_Key, str]]:
    """Return why sounds cannot be used, and what is odd about others."""
    keys = sorted(keys, key=str)
    with ThreadPoolExecutor(machine.cores(), thread_name_prefix="listen") as pool:
        found = list(zip(keys, pool.map(_verdict, keys), strict=True))
    reasons = {key: reason for key, (reason, _) in found if reason}
    return reasons, {key: remark for key, (_, remark) in found if remark}


def _verdict(key: _Key) -> tuple[str, str]:
    path, part = key
    try:
        loudness = gauge(path, *(part or ()))
    except DataError as error:
        return error.message, ""
    if loudness.peak < 10 ** (_SILENT_DBFS / 20):
        return "", f"silent: nothing in it is above {_SILENT_DBFS} dBFS"
    if loudness.clipped > _CLIPPED:
        return "", f"clipped: {loudness.clipped:.2g} of its samples stand at full scale"
    return "", ""
