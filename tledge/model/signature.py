"""Signatures: who exported a model file. The seal notices changes, but whoever can rewrite a file can seal it again.

They are those of OpenSSF Model Signing, made with the private key of an elliptic curve (P-256, P-384 or P-521) and
checked with its public key, both in PEM; nothing is asked of the network. The signature is a file of its own, and
holds no name of the model file, which may be renamed.
Source: https://github.com/sigstore/model-transparency
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

from tledge.errors import CheckFailed, MissingExtra, TledgeError

SUFFIX = ".sig"


def beside(model: Path) -> Path:
    """Return where the signature of the model file `model` lies unless somebody says otherwise."""
    return model.with_name(model.name + SUFFIX)


def sign(model: Path, private_key: Path) -> bytes:
    """Return the contents of a signature of the file `model`.

    Raises MissingExtra without model-signing, TledgeError when `private_key` is no such key or has a password.
    """
    signing = _library().signing
    config = _with_key(signing.Config().use_elliptic_key_signer, "private", private_key)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "signature"
        config.sign(model.resolve(), written)  # it refuses links
        return written.read_bytes()


def check(model: Path, signature: Path, public_key: Path) -> None:
    """Raise CheckFailed unless the file `signature` is one of the file `model` by the owner of `public_key`.

    Raises MissingExtra without model-signing, TledgeError when `public_key` is no such key.
    """
    verifying = _library().verifying
    config = _with_key(verifying.Config().use_elliptic_key_verifier, "public", public_key)
    if not signature.is_file():
        raise CheckFailed(
            f"{model} must be signed, and there is no signature {signature}.", "Ask for it, or use 'tledge sign'."
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it warns there of old signatures
            config.verify(model.resolve(), signature)
    except Exception as error:  # whatever a made-up signature may provoke in the library, it is not a good one
        raise CheckFailed(
            f"{signature} is no signature of {model} by the owner of {public_key}: the model, the signature or the key "
            "is another one.",
            "Do not use the file before you know why.",
        ) from error


def _with_key(use: Any, kind: str, path: Path) -> Any:
    """Return what `use` makes of the key at `path`."""
    try:
        return use(**{f"{kind}_key": path})
    except OSError as error:
        raise TledgeError(f"The key {path} cannot be read: {error.strerror}.", "Check the path.") from error
    except Exception as error:  # cryptography has many kinds for a file that is no key
        raise TledgeError(
            f"A {kind} key of curve P-256, P-384 or P-521 in PEM, without a password, is wanted; {path} is none.",
            "Make one with: openssl ecparam -name prime256v1 -genkey -noout -out private.pem; "
            "openssl ec -in private.pem -pubout -out public.pem.",
        ) from error


def _library() -> Any:
    try:
        import model_signing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise MissingExtra(f"{error.name or 'model-signing'} (needed for signatures)", "sign") from error
    return model_signing
