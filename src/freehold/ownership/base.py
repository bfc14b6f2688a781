"""What every ownership method is: a mark that a key puts in, and trials that a suspect is put to."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from freehold.data.domain import Domains
from freehold.errors import SecretError, SuspectError, UsageError
from freehold.keys.key import Key
from freehold.models.anatomy import dry_run
from freehold.ownership.fitting import check_alpha, check_key, check_suspect, fitting
from freehold.ownership.observation import Observation, Trials
from freehold.ownership.suspect import Suspect
from freehold.ownership.verdict import Verdict, several, verdict_on
from freehold.plugin import Access, find
from freehold.protection import Outcome, Protection
from freehold.statistics import Wealth
from freehold.training import Trainer

logger = logging.getLogger(__name__)


class OwnershipMethod(Protection):
    """Base of the methods that show whose a model is. Subclasses embed and observe; judging is done here.

    A method hands over the secret labels of its trials once, and the suspect's answers as it gets them;
    it neither counts nor computes probabilities.
    """

    kind = "ownership"
    access: ClassVar[Access] = Access.LABELS  # the least that verifying needs
    survives: ClassVar[float] = 0.5  # share of trials that a derived model keeps, as the card says
    needs_commitment: ClassVar[bool] = False  # where what was learned could have been made to fit a suspect

    @property
    def needs_unauthorized(self) -> bool:
        """A mark is put in on the model's own domain."""
        return False

    @abstractmethod
    def _embed(self, model: nn.Module, domains: Domains, trainer: Trainer, key: Key) -> Outcome:
        """The algorithm; arguments as ``_protect``, and the key, bound to this method.

        The outcome may hold a key that is bound to more: what was learned.
        """

    @abstractmethod
    def _trials(self, key: Key) -> Trials:
        """The secret labels, drawn from the key, and the null."""

    @abstractmethod
    def _observe(self, suspect: Suspect, key: Key) -> Iterator[Tensor]:
        """The suspect's answers to the trials, int64, in order and in parts of any size.

        A part is asked for only when it is needed. Raises SuspectError if the suspect fails.
        """

    def questions(self, key: Key) -> int:
        """How many images all trials of ``key`` take; known without drawing one."""
        return len(self._trials(key).labels)

    def exhibits(self, key: Key) -> tuple[str, ...]:
        """Names of the layers whose weights are read in a suspect; none where answers are asked for."""
        return ()

    @final
    def _protect(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        raise UsageError("an ownership method works with a key", where=self.name, fix="call protect")

    @final
    def _apply(self, model: nn.Module, domains: Domains, trainer: Trainer, key: Key | None) -> Outcome:
        if key is None:
            raise UsageError("no key", where=self.name, fix="call protect")
        outcome = self._embed(model, domains, trainer, key)
        outcome.key = outcome.key or key
        return outcome

    @final
    def _key(self, key: Key | None, model: nn.Module, domains: Domains) -> Key:
        key = key or Key.born()
        facts = {
            **({"customer": key.facts["customer"]} if "customer" in key.facts else {}),
            "input": domains.input.model_dump(mode="json"),
            "num_classes": dry_run(model, domains.input.example()).shape[1],
        }
        return key.bound(self.name, self.model_dump(mode="json"), facts)

    @final
    def verify(
        self,
        suspect: Suspect,
        key: Key,
        *,
        alpha: float = 1e-6,
        commitment: str | None = None,
        sequential: bool = False,
    ) -> Verdict:
        """Put a suspect to the key's trials.

        Args:
            suspect: see :func:`~freehold.ownership.suspect.suspect`.
            key: of a model marked by this method.
            alpha: largest chance of MATCH for an innocent suspect, in (0, 0.05].
            commitment: of the key, as it was published before the model was released. Without one the
                p-value counts 2**64 times, since the secret may have been chosen to fit the suspect.
            sequential: stop as soon as the case is clear; costs few queries, and a little power.

        Raises:
            UsageError: alpha out of range, or the suspect is of another input size.
            ModelError: the suspect knows another number of classes.
            SecretError: the key is of another method, other settings or another commitment.
        """
        check_alpha(alpha)
        self.check(suspect, key, commitment)
        trials, asked = self._trials(key), suspect.queries
        answers, failure = torch.empty(0, dtype=torch.int64), ""
        wealth = Wealth(trials.rate) if sequential else None

        def observed() -> Observation:
            p_value = None if wealth is None else wealth.p_value
            told = trials.readable(answers)
            return Observation(*told, alpha, self.survives, commitment is not None, p_value)

        if suspect.access < self.access:
            failure = f"{self.access.name.lower()} are needed and {suspect.access.name.lower()} are given"
        elif self.needs_commitment and commitment is None:
            failure = "what the key holds counts only if its commitment was published before: hand it in"
        elif observed().reachable() <= alpha:
            try:
                for part in self._observe(suspect, key):
                    part = fitting(part, len(trials.labels) - len(answers), self.name)
                    expected = trials.labels[len(answers) : len(answers) + len(part)]
                    answers = torch.cat([answers, part])
                    if wealth is not None:
                        wealth.update((part == expected)[part >= 0].tolist())
                        if _clear(observed(), wealth, len(trials.labels)):
                            break
                else:
                    if len(answers) != len(trials.labels):
                        failure = f"only {len(answers)} of {len(trials.labels)} trials were answered"
            except SuspectError as error:
                failure = f"no usable answer from the suspect: {error.what}"
        verdict = verdict_on(
            observed(),
            suspect=suspect.name,
            key=(key.method, key.owner, key.commitment),
            access=self.access,
            queries=suspect.queries - asked,
            failure=failure,
        )
        logger.info("%s: %s, %s", suspect.name, verdict.decision, verdict.reason)
        return verdict

    @final
    def check(self, suspect: Suspect, key: Key, commitment: str | None = None) -> None:
        """Refuse, before any query, a key or a suspect that :meth:`verify` could do nothing with.

        Raises:
            UsageError: the suspect is of another input size.
            ModelError: it knows another number of classes.
            SecretError: the key is of another method, other settings or another commitment.
        """
        check_key(self, key, commitment)
        check_suspect(suspect, key)

    @final
    def check_level(self, key: Key, alpha: float) -> Trials:
        """The trials of ``key``, which a suspect that answers all of them decides at ``alpha``.

        Raises:
            UsageError: alpha is out of range, or no answers whatever reach it.
            SecretError: the key is of another method or other settings.
        """
        check_alpha(alpha)
        check_key(self, key)
        trials = self._trials(key)
        best = Observation(trials, trials.labels[:0], alpha, self.survives, committed=True).reachable()
        if best > alpha:
            raise UsageError(
                f"{len(trials.labels)} trials reach p = {best:.1g} at best",
                where="alpha",
                fix="raise the level",
            )
        return trials


def _clear(observed: Observation, wealth: Wealth, trials: int) -> bool:
    """Whether a sequential test may stop: it matches, or it cannot any more and is unlike a derived model."""
    hopeless = wealth.reach(trials - wealth.trials) * observed.allowance > observed.alpha
    if hopeless:
        return observed.unlike_derived()
    level = observed.alpha / observed.allowance
    return observed.chance() <= level and observed.given_answers() <= level


def method_of(key: Key) -> OwnershipMethod:
    """The method that a key is bound to, with the settings it was made with.

    Raises:
        SecretError: the key is not bound to an ownership method that is installed.
    """
    try:
        found = find(key.method)
    except UsageError as error:
        raise SecretError(f"unknown method {key.method!r}", where="key", fix=error.fix) from error
    if not issubclass(found, OwnershipMethod):
        raise SecretError(f"{key.method!r} is no ownership method", where="key")
    return found(**key.settings)


def verify(
    suspect: Suspect,
    key: Key,
    *,
    alpha: float = 1e-6,
    commitment: str | None = None,
    sequential: bool = False,
) -> Verdict:
    """Does ``suspect`` carry ``key``? See :meth:`OwnershipMethod.verify`."""
    return method_of(key).verify(suspect, key, alpha=alpha, commitment=commitment, sequential=sequential)


def verify_all(
    cases: Iterable[tuple[Suspect, Key]],
    *,
    alpha: float = 1e-6,
    commitments: Iterable[str] = (),
    sequential: bool = False,
) -> list[Verdict]:
    """Verdicts on several suspects or keys, corrected by Holm for their number.

    Args:
        cases: pairs of suspect and key.
        alpha: largest chance of any false MATCH among them.
        commitments: those published before release; a key counts as committed if its own is among them.
        sequential: stop asking as soon as a case is clear, also as one of so many.

    Raises:
        FreeholdError: as :meth:`OwnershipMethod.verify`, of the first case that cannot be run.
    """
    published, cases = {text.strip().lower() for text in commitments}, list(cases)
    level = level_of_each(alpha, len(cases), sequential)
    found = []
    for s, k in cases:
        commitment = k.commitment if k.commitment in published else None
        found.append(verify(s, k, alpha=level, commitment=commitment, sequential=sequential))
    return several(found, alpha)


def level_of_each(alpha: float, count: int, sequential: bool) -> float:
    """The level of one verdict among ``count``: a test that stops early has to stop where all would hold."""
    return alpha / max(1, count) if sequential else alpha
