"""Tell by a file's first bytes whether it is a sound, and by its structure whether it is cut short.

Sources: RIFF (Microsoft, 1991), RFC 3533 (Ogg pages), RFC 9639 (FLAC), ID3v2.4, ISO/IEC 11172-3 (frame headers of MP3).
"""

from __future__ import annotations

from typing import BinaryIO

_RIFF_UNKNOWN = 0x7FFF_0000  # writers to a pipe put this, or more, for a length that they do not know yet
_RIFF_SPARE_BYTES = 64  # some writers count the header as data
_MOST_CHUNKS = 1000
_OGG_PAGE, _OGG_HEADER_BYTES, _OGG_LAST = b"OggS", 27, 4
_OGG_LONGEST_BYTES = _OGG_HEADER_BYTES + 255 + 255 * 255
_ID3_BYTES = 10

# Of a frame header of MP3 by version (2.5, -, 2, 1): rates in Hz; and bit rates in kbit/s, of version 1 and of others.
_RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))
_KBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def is_sound(head: bytes) -> bool:
    """Tell by the first bytes of a file, some thousand, whether it is WAV, FLAC, OGG or MP3, whatever its name."""
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] == b"WAVE"
    return head.startswith((b"fLaC", _OGG_PAGE)) or _has_id3(head) or _is_mp3(head)


def is_cut(file: BinaryIO) -> bool:
    """Tell whether a WAV or OGG announces more than is there; of the others, decoding tells. Moves in the file."""
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    if start == b"RIFF":
        return _is_wav_cut(file, size)
    return start == _OGG_PAGE and _is_ogg_cut(file, size)


def _has_id3(head: bytes) -> bool:
    """A tag may stand before MP3 and FLAC; its bytes say so plainly, unlike a text that begins with ID3."""
    return head.startswith(b"ID3") and head[3:4] in (b"\2", b"\3", b"\4") and max(head[6:_ID3_BYTES], default=128) < 128


def _is_mp3(head: bytes) -> bool:
    """Two frames on end, of one version and rate: eleven set bits alone begin many a file that is no MP3."""
    length = _frame_bytes(head)
    if not length:
        return False
    following = head[length : length + 4]
    return len(following) < 4 or (bool(_frame_bytes(following)) and _kind(following) == _kind(head))


def _kind(frame: bytes) -> tuple[int, int]:
    return frame[1] & 0xFE, frame[2] & 0x0C  # the last bit of the second byte says whether a checksum follows


def _frame_bytes(frame: bytes) -> int:
    """Return the length of the MP3 frame (layer III) that begins here, 0 where none does."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:
        return 0
    version, kbits, rate, padding = frame[1] >> 3 & 3, frame[2] >> 4, frame[2] >> 2 & 3, frame[2] >> 1 & 1
    if version == 1 or kbits in (0, 15) or rate == 3:
        return 0
    table, factor = (_KBITS_1, 144_000) if version == 3 else (_KBITS_2, 72_000)
    return factor * table[kbits - 1] // _RATES[version][rate] + padding


def _is_wav_cut(file: BinaryIO, size: int) -> bool:
    at = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return False  # no data: libsndfile says so
        length = int.from_bytes(header[4:], "little")
        if header[:4] == b"data":
            return length < _RIFF_UNKNOWN and at + 8 + length > size + _RIFF_SPARE_BYTES
        at += 8 + length + length % 2
    return False


def _is_ogg_cut(file: BinaryIO, size: int) -> bool:
    """Tell whether the last page is not whole, or not marked as the last of its stream."""
    file.seek(max(0, size - 2 * _OGG_LONGEST_BYTES))
    tail = file.read()
    page = tail[tail.rfind(_OGG_PAGE) :]
    if len(page) < _OGG_HEADER_BYTES:
        return True
    segments = page[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + page[26]]
    whole = len(segments) == page[26] and len(page) >= _OGG_HEADER_BYTES + len(segments) + sum(segments)
    return not (whole and page[5] & _OGG_LAST)
