"""A key as bytes in the clear, for whoever encrypts them: the opening and what was learned."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from freehold.errors import ArtifactError

_LENGTH = 8  # bytes


def pack(opening: bytes, learned: Mapping[str, Tensor]) -> bytes:
    """Opening and tensors in one piece."""
    from safetensors.torch import save

    return len(opening).to_bytes(_LENGTH, "big") + opening + save(dict(learned))


def unpack(data: bytes, *, where: str) -> tuple[bytes, dict[str, Tensor]]:
    """What :func:`pack` was given.

    Raises:
        ArtifactError: it gave no such bytes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    try:
        return data[_LENGTH:end], load(data[end:])
    except SafetensorError as error:
        raise no_key(where) from error


def no_key(where: str) -> ArtifactError:
    """The error that is raised for bytes that hold no key."""
    return ArtifactError(
        "holds no key that this version reads", where=where, fix="use the version of freehold that wrote it"
    )
