"""The owner's key: 32 secret bytes, the owner's name, and what a method needs to verify."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from torch import Tensor

from freehold.errors import ArtifactError, FreeholdError, SecretError, UsageError
from freehold.keys.derivation import SECRET_BYTES, customers_secret
from freehold.keys.packing import no_key, pack, unpack
from freehold.keys.stream import Stream
from freehold.keys.vault import read_vault, write_vault
from freehold.models.weights import state_hash

FORMAT = 1
_DOMAIN = b"freehold/commitment/1\0"


class Key:
    """All that is secret about one marked model. Immutable, redacted in print, never pickled.

    A key is *born* with a secret and a name, and *bound* to a method when a model is marked. Triggers,
    labels, passports and bits are drawn from :meth:`stream`; what had to be learned is kept beside them.
    Publish :attr:`commitment` before the model is released: it fixes all of the key and tells none of it.

    Attributes:
        owner: the name that every stream depends on.
        method: registered name of the method, empty before it is bound.
        settings: the method's fields.
        facts: JSON-able, what else verification needs: classes, input, hash of the released weights.
        learned: tensors by name.
    """

    __slots__ = ("_secret", "facts", "learned", "method", "owner", "settings")

    _secret: bytes
    owner: str
    method: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    learned: Mapping[str, Tensor]

    def __init__(
        self,
        secret: bytes,
        owner: str = "",
        *,
        method: str = "",
        settings: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        learned: Mapping[str, Tensor] | None = None,
    ) -> None:
        if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
            raise SecretError(f"a key is made of {SECRET_BYTES} secret bytes", where="secret")
        if not isinstance(owner, str) or len(owner) > 1000 or not owner.isprintable():
            raise UsageError("an owner's name is one line of at most 1000 characters", where="owner")
        try:  # a copy that nobody else holds, and only what JSON gives back as it was
            plain = json.loads(json.dumps([dict(settings or {}), dict(facts or {})], allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UsageError(f"a key holds plain data only: {error}", where="key") from None
        tensors = {name: t.detach().cpu().clone().contiguous() for name, t in (learned or {}).items()}
        if not all(bool(t.isfinite().all()) for t in tensors.values()):
            raise UsageError("a key holds finite numbers only", where="learned")
        values = (secret, owner, method, *map(MappingProxyType, (*plain, tensors)))
        names = ("_secret", "owner", "method", "settings", "facts", "learned")
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def born(cls, owner: str = "") -> Key:
        """A new key, its secret drawn from the operating system.

        Args:
            owner: whose; part of everything that is derived.
        """
        return cls(secrets.token_bytes(SECRET_BYTES), owner)

    def bound(
        self,
        method: str,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        learned: Mapping[str, Tensor] | None = None,
    ) -> Key:
        """This secret and owner, with what a method needs to verify."""
        return Key(self._secret, self.owner, method=method, settings=settings, facts=facts, learned=learned)

    def released(self, state: str) -> Key:
        """This key for the model whose weights hash to ``state``; its commitment then covers them."""
        facts = {**self.facts, "released": state}
        return self.bound(self.method, self.settings, facts, self.learned)

    def for_customer(self, name: str) -> Key:
        """The key of one customer's copy: of the same owner, from a secret that is derived from this one.

        HKDF-SHA-256 over this secret, the owner and the name. Whoever sees it learns nothing about this key
        or about other customers' keys.

        Args:
            name: the customer's; the same name gives the same key.

        Raises:
            UsageError: a name that is empty, not one line or longer than 200 characters.
            SecretError: this is a customer's key, or is bound to a method.
        """
        if self.method or "customer" in self.facts:
            raise SecretError("is no master key", where="key", fix="derive from the key that Key.born gave")
        secret, known_by = customers_secret(self._secret, self.owner, name)
        return Key(secret, self.owner, facts={"customer": known_by})

    def stream(self, *path: str | int) -> Stream:
        """Secret numbers for one purpose; independent of those of any other path, owner or secret.

        They depend on the method's name, and on nothing else that the key is bound to.
        """
        return Stream(self._secret, self.owner, self.method, *path)

    @property
    def commitment(self) -> str:
        """SHA-256 (hex) over the whole key in canonical form: publish it, and nothing can be changed after.

        It hides the key, since 32 of the hashed bytes are random.
        """
        return hashlib.sha256(_DOMAIN + self.opening()).hexdigest()

    def opening(self) -> bytes:
        """The whole key in canonical form, its secret in the open: for evidence that is to be checked.

        Whoever reads it can do what the owner can; a key is of no use any more once it is published.
        """
        body = {
            "format": FORMAT,
            "owner": self.owner,
            "secret": self._secret.hex(),
            "method": self.method,
            "settings": dict(self.settings),
            "facts": dict(self.facts),
            "learned": state_hash(self.learned),
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    def save(self, path: str | Path, passphrase: str, *, replace: bool = False) -> None:
        """Write the key, encrypted, to a file that only its owner can read.

        Args:
            path: the file; what it is called says nothing.
            passphrase: needed to read it again; there is no other way back.
            replace: write over an earlier file.

        Raises:
            SecretError: the passphrase is empty.
            OutputError: there is a file already, or it cannot be written.
        """
        write_vault(Path(path), self.packed(), passphrase, replace=replace)

    @classmethod
    def load(cls, path: str | Path, passphrase: str, *, method: str | None = None) -> Key:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            passphrase: as it was given.
            method: refuse the key of another one.

        Raises:
            MissingInputError: there is no such file.
            SecretError: wrong passphrase, or the key of another method.
            ArtifactError: truncated, altered, or of another version.
        """
        key = cls.unpacked(read_vault(Path(path), passphrase), where=str(path))
        if method is not None and key.method != method:
            raise SecretError(
                f"a key of {key.method or 'no method yet'}, not of {method}",
                where=str(path),
                fix="name the method that marked the model, or another key",
            )
        return key

    def packed(self) -> bytes:
        """All of the key as bytes, in the clear: for whoever encrypts them."""
        return pack(self.opening(), self.learned)

    @classmethod
    def unpacked(cls, data: bytes, *, where: str) -> Key:
        """The key that :meth:`packed` gave as bytes.

        Raises:
            ArtifactError: it is none, or of another version.
        """
        return cls.opened(*unpack(data, where=where), where=where)

    @classmethod
    def opened(cls, opening: bytes, learned: Mapping[str, Tensor], *, where: str = "opening") -> Key:
        """The key that :meth:`opening` gave.

        Args:
            opening: as it was written; other bytes of the same meaning are refused.
            learned: tensors by name.
            where: what errors call it.

        Raises:
            ArtifactError: not an opening that this version reads, or the tensors are of another key.
        """
        try:
            body = json.loads(opening)
            if body.pop("format") != FORMAT:
                raise ValueError("format")
            secret, _ = bytes.fromhex(body.pop("secret")), body.pop("learned")
            key = cls(secret, **body, learned=learned)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, FreeholdError) as error:
            raise no_key(where) from error
        if key.opening() != opening:
            raise ArtifactError("is not in the form that was committed to", where=where)
        return key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return hmac.compare_digest(self.commitment, other.commitment)

    def __hash__(self) -> int:
        return hash(self.commitment)

    def __repr__(self) -> str:
        return f"Key(owner={self.owner!r}, method={self.method!r}, commitment={self.commitment[:16]}…)"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a key does not change; see Key.bound")

    __delattr__ = None  # type: ignore[assignment]

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: object) -> Key:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SecretError("a key is never pickled", where="key", fix="use Key.save with a passphrase")
