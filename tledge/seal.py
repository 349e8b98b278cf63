"""The seal: a digest at the very end of a model file, so that a changed file is noticed before it is run.

A protobuf message may be written in pieces: parsing `a + b` gives the merged message. So the sealed file is the
serialized ONNX model followed by one more serialized piece of the same message, which holds a single metadata entry
(`tledge.digest` → SHA-256 of everything before it, in hex). Any ONNX reader sees one ordinary model with one more
metadata entry, and checking the seal needs neither onnx nor a protobuf parser. It guards against damage and
against edits that forget the manifest; it is no signature: who can rewrite the file can seal it again.
Source: protobuf encoding guide, "Last One Wins"; onnx.proto3, ModelProto.metadata_props = 14.
"""

from __future__ import annotations

import hashlib

from tledge.errors import ModelError

KEY = b"tledge.digest"
_DIGEST_HEX = 64
_ENTRY = bytes([0x0A, len(KEY)]) + KEY + bytes([0x12, _DIGEST_HEX])
_TAIL_START = bytes([0x72, len(_ENTRY) + _DIGEST_HEX]) + _ENTRY
_TAIL_BYTES = len(_TAIL_START) + _DIGEST_HEX


def seal(model: bytes) -> bytes:
    """Return the serialized ONNX `model` with its digest appended."""
    return model + _TAIL_START + digest(model).encode()


def digest(content: bytes) -> str:
    """Return the SHA-256 of `content` in hex, as seals have it."""
    return hashlib.sha256(content).hexdigest()


def check_seal(sealed: bytes, name: str) -> str:
    """Return the digest in hex of the sealed file's contents; `name` is what to call the file.

    Raises ModelError when the bytes carry no seal (not exported by tledge) or do not match it (changed since).
    """
    body, tail = sealed[:-_TAIL_BYTES], sealed[-_TAIL_BYTES:]
    if not tail.startswith(_TAIL_START):
        if b"tledge.manifest" in sealed:
            raise ModelError(
                f"{name} was changed or cut short after it was exported.", "Export it again with 'tledge export'."
            )
        raise ModelError(
            f"{name} was not exported by tledge, or was cut short.",
            "Make a model with 'tledge train', then 'tledge export'.",
        )
    expected, found = tail[len(_TAIL_START) :].decode("ascii", "replace"), digest(body)
    if expected != found:
        raise ModelError(
            f"{name} does not match its digest: expected {expected[:12]}…, found {found[:12]}….",
            "Export it again with 'tledge export'.",
        )
    return found
