"""One exception tree. Every message says what is wrong, where, and how to mend it.

The command line prints these as one line and exits with ``exit_code``; codes from 64 up follow
the customary ``sysexits`` meanings, so that scripts can tell wrong use from a broken input.
"""

from __future__ import annotations

from collections.abc import Sequence


class FreeholdError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: the fault in one sentence.
        where: the field, file or argument it is about.
        fix: what the user can do about it.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.fix})" if self.fix else text


class UsageError(FreeholdError):
    """The request makes no sense as asked: an unknown name, contradicting arguments."""

    exit_code = 64


class DataError(FreeholdError):
    """Images, labels or domains that cannot be used."""

    exit_code = 65


class ModelError(FreeholdError):
    """A model, its weights or its output does not fit what is asked of it."""

    exit_code = 65


class ArtifactError(FreeholdError):
    """A file written earlier is truncated, altered or of an unknown format."""

    exit_code = 65


class MissingInputError(FreeholdError):
    """A file or folder that was named is not there."""

    exit_code = 66


class MissingDependencyError(FreeholdError):
    """An optional package is needed and not installed."""

    exit_code = 69


class TrainingError(FreeholdError):
    """Training could not go on; the last good state is kept."""

    exit_code = 70


class OutputError(FreeholdError):
    """A result cannot be written: foreign directory, no permission, no space."""

    exit_code = 73


class SuspectError(FreeholdError):
    """A suspect does not answer, or what it answers is no answer."""

    exit_code = 76


class SecretError(FreeholdError):
    """A key, or the passphrase to it, is not the right one."""

    exit_code = 77


class ConfigError(FreeholdError):
    """A configuration or hyper-parameter is misspelt, missing or out of range."""

    exit_code = 78


class ProblemsError(FreeholdError):
    """A method cannot run on this model and these domains; lists every reason at once."""

    exit_code = 65

    def __init__(self, method: str, problems: Sequence[object]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(p) for p in problems), where=method)
