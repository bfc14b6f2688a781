"""A vault: one owner's master key, and for each customer what it takes to find the mark of his copy again.

A folder with two kinds of files. ``master.key`` is a key file under the owner's passphrase. Each file in
``customers/`` is sealed with AES-256-GCM under a key that the master key's stream gives: they need no
passphrase of their own, and a new passphrase for the master leaves them as they are. They are named by a
secret hash, so that the folder tells how many customers there are and not who.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.artifacts.files import writing
from freehold.errors import ArtifactError, MissingInputError, OutputError, SecretError, UsageError
from freehold.keys.key import Key
from freehold.keys.vault import read_private, write_private
from freehold.settings import nearest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MASTER, CUSTOMERS, ENDING = "master.key", "customers", ".copy"
MAGIC = b"FRHLDCP\1"
_NONCE = 12


class Vault:
    """An owner's master key, opened, and his customers' keys.

    Args:
        path: the folder, which :meth:`create` made.
        passphrase: of its master key.

    Raises:
        MissingInputError: there is no vault.
        SecretError: the passphrase is wrong.
        ArtifactError: the master key is damaged, or is no master key.
    """

    def __init__(self, path: str | Path, passphrase: str) -> None:
        self.path = Path(path)
        if not (self.path / MASTER).exists():
            raise MissingInputError(
                "there is no vault", where=str(path), fix="make one with 'freehold key new'"
            )
        self._master = Key.load(self.path / MASTER, passphrase, method="")
        self._seal = self._master.stream("vault", "seal").draw(32)

    def __repr__(self) -> str:
        return f"Vault({str(self.path)!r}, owner={self.owner!r})"

    @classmethod
    def create(cls, path: str | Path, passphrase: str, owner: str) -> Vault:
        """A new vault with a new master key.

        Raises:
            OutputError: there is one already, or the folder cannot be written.
            SecretError: the passphrase is empty.
        """
        path = Path(path)
        if (path / MASTER).exists():
            raise OutputError("there is a vault already", where=str(path), fix="choose another folder")
        building = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with writing(path):
            try:
                (building / CUSTOMERS).mkdir(mode=0o700, parents=True)
                building.chmod(0o700)
                Key.born(owner).save(building / MASTER, passphrase)
                building.rename(path)  # refused where there is anything in the folder
            finally:
                shutil.rmtree(building, ignore_errors=True)
        return cls(path, passphrase)

    @property
    def owner(self) -> str:
        """Whose vault it is."""
        return self._master.owner

    def born(self, name: str) -> Key:
        """The key to mark a copy for the customer ``name`` with; always the same.

        Raises:
            UsageError: no name of a customer.
        """
        return self._master.for_customer(name)

    def add(self, name: str, key: Key, *, replace: bool = False) -> None:
        """Keep the bound key of a customer's copy.

        Args:
            name: the customer's; one copy each.
            key: made from :meth:`born`, bound to the copy.
            replace: keep it in the place of an earlier one.

        Raises:
            OutputError: the customer has a copy already, or the folder cannot be written.
            SecretError: another customer's key, or one of no method.
        """
        own = self.born(name)
        if not key.method or own.bound(key.method, key.settings, key.facts, key.learned) != key:
            raise SecretError(f"is no key of {name!r}", where="key", fix="mark the copy with Vault.born")
        if key.facts.get("customer") != own.facts["customer"]:
            raise SecretError("the key names no customer or another one", where="key")
        path, nonce = self._place(name), secrets.token_bytes(_NONCE)
        data = MAGIC + nonce + self._cipher().encrypt(nonce, key.packed(), MAGIC + path.name.encode())
        if not write_private(path, data, replace=replace):
            raise self._known(name)

    def refuse_known(self, name: str) -> None:
        """See that ``name`` is new before any work.

        Raises:
            OutputError: the customer has a copy already.
        """
        if self._place(name).exists():
            raise self._known(name)

    def key(self, name: str) -> Key:
        """The key of the customer's copy.

        Raises:
            UsageError: no such customer.
            ArtifactError: what was kept of him is truncated or altered.
        """
        path = self._place(name)
        if not path.exists():
            known = [*self.keys()]
            raise UsageError(
                f"no customer {name!r}",
                where=str(self.path),
                fix=nearest(name, known) if known else "mark a copy with 'freehold watermark --customer'",
            )
        return self._opened(path)

    def keys(self) -> dict[str, Key]:
        """The key of each customer's copy by his name, in the order of names.

        Raises:
            ArtifactError: a file of the vault is truncated, altered or of another vault.
        """
        found = [self._opened(path) for path in sorted((self.path / CUSTOMERS).glob(f"*{ENDING}"))]
        return dict(sorted((str(key.facts["customer"]), key) for key in found))

    def _place(self, name: str) -> Path:
        known_by = str(self.born(name).facts["customer"])
        return (
            self.path / CUSTOMERS / (self._master.stream("vault", "file", known_by).draw(16).hex() + ENDING)
        )

    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._seal)

    def _opened(self, path: Path) -> Key:
        from cryptography.exceptions import InvalidTag

        data, start = read_private(path, MAGIC), len(MAGIC) + _NONCE
        try:
            if not data.startswith(MAGIC) or len(data) < start:
                raise InvalidTag
            known = MAGIC + path.name.encode()
            content = self._cipher().decrypt(data[len(MAGIC) : start], data[start:], known)
        except InvalidTag:
            raise ArtifactError(
                "is damaged, renamed or of another vault", where=str(path), fix="restore it from a backup"
            ) from None
        return Key.unpacked(content, where=str(path))

    def _known(self, name: str) -> OutputError:
        return OutputError(
            f"the customer {name!r} has a copy already, and a key that is lost cannot be made again",
            where=str(self.path),
            fix="give this copy a name of its own, such as 'NAME, second model'",
        )
