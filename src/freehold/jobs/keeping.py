"""Where the key of a model that is being marked comes from, and where it goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from freehold.artifacts.files import writing
from freehold.errors import OutputError, SecretError
from freehold.keys import Key, Vault

Passphrase = Callable[[bool], str]  # of a key that is new, or else of one that exists


class Keeping(ABC):
    """The way of one key while a model is marked; an interrupted run goes on with the key it began with."""

    @abstractmethod
    def look(self, *, resuming: bool) -> None:
        """Read what exists already, or refuse it; before anything is written."""

    @abstractmethod
    def obtain(self) -> Key:
        """The key to mark with; a new one, or that of the interrupted run which goes on."""

    @abstractmethod
    def keep(self, key: Key) -> None:
        """Keep it, bound to the marked model."""

    @abstractmethod
    def forget(self) -> None:
        """Nothing was marked with it."""


class OwnFile(Keeping):
    """A key of its own, in an encrypted file."""

    def __init__(self, path: Path, passphrase: Passphrase, owner: str) -> None:
        self._path, self._ask, self._owner = path, passphrase, owner
        self._secret, self._new = "", False
        self._begun: Key | None = None

    def look(self, *, resuming: bool) -> None:
        """The key of the interrupted run, if it came so far as to write one."""
        if not self._path.exists():
            return
        if not resuming:
            raise OutputError(
                "there is a key already, and a key that is lost cannot be made again",
                where=str(self._path),
                fix="choose another --key",
            )
        self._secret = self._ask(False)
        key = Key.load(self._path, self._secret)
        if key.owner != self._owner:
            raise SecretError(f"the key is of {key.owner!r}, not of {self._owner!r}", where=str(self._path))
        self._begun, self._new = key, not key.method

    def obtain(self) -> Key:
        """Born and written before any work, or as it was read."""
        if self._begun is not None:
            return self._begun
        key, self._secret = Key.born(self._owner), self._ask(True)
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        key.save(self._path, self._secret)
        self._new = True
        return key

    def keep(self, key: Key) -> None:
        """Write over what was born."""
        key.save(self._path, self._secret, replace=True)

    def forget(self) -> None:
        """Delete the file, unless an earlier run bound it to a model."""
        if self._new:
            self._path.unlink(missing_ok=True)


class CustomersCopy(Keeping):
    """The key of a customer's copy, derived from a vault's master key and kept in the vault."""

    def __init__(self, path: Path, passphrase: Passphrase, owner: str, customer: str) -> None:
        self._path, self._ask, self._owner, self._customer = path, passphrase, owner, customer
        self._resuming = False

    def look(self, *, resuming: bool) -> None:
        """A customer has one copy."""
        self._vault, self._resuming = Vault(self._path, self._ask(False)), resuming
        if self._owner not in ("", self._vault.owner):
            raise SecretError(
                f"the vault is of {self._vault.owner!r}, not of {self._owner!r}", where=str(self._path)
            )
        if not resuming:
            self._vault.refuse_known(self._customer)

    def obtain(self) -> Key:
        """Derived; nothing is written before the copy is marked."""
        return self._vault.born(self._customer)

    def keep(self, key: Key) -> None:
        """Sealed in the vault."""
        self._vault.add(self._customer, key, replace=self._resuming)

    def forget(self) -> None:
        """Nothing was written."""
