"""`tledge sign`: say with a key of one's own who exported a model file."""

from __future__ import annotations

from pathlib import Path

from tledge import places, seal
from tledge.errors import ModelError, OutputError
from tledge.model import signature
from tledge.schema import SignResult


def sign(model: str | Path, key: str | Path, *, out: str | Path | None = None, force: bool = False) -> SignResult:
    """Sign the model file `model` with the private key in the PEM file `key`; the signature goes to `out`.

    `out` is the model's name with .sig behind it unless given. Raises ModelError when the model is not ours or was
    changed, TledgeError for a `key` that cannot be used or an `out` that is taken, MissingExtra without model-signing.
    """
    model, key = places.at(model), places.at(key)
    target = places.at(out) if out else signature.beside(model)
    places.check_free_file(target, force=force)
    if target.resolve() in (model.resolve(), key.resolve()):
        raise OutputError(f"The signature must not replace the model or the key, {target}.", "Choose another --out.")
    try:
        digest = seal.check_seal(model.read_bytes(), str(model))
    except OSError as error:
        raise ModelError(f"Model file {model} cannot be read: {error.strerror}.", "Check the path.") from error
    content = signature.sign(model, key)
    places.write_whole(target, content)
    return SignResult(schema_version=1, model=str(model), digest=digest, signature=str(target), bytes=len(content))
