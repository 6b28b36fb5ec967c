"""What a policy of the gateway is, and arrears as one. All of them are put together in `gateway/rules.py`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from sqlalchemy.engine import Connection

from dormpower.domain import arrears
from dormpower.domain.arrears import ArrearsFacts, ArrearsPolicy, Remember, Warn, Warnings
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import ClearAlarm, Latch, LetGo, LookAgain, Place, RaiseAlarm, Wait
from dormpower.domain.prohibited import Allowance
from dormpower.domain.restoring import Restore
from dormpower.domain.samples import ChannelSample
from gateway.steady_rows import Rests

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PolicyT = TypeVar("PolicyT")

Decision = Place | LetGo | Latch | RaiseAlarm | ClearAlarm | Warn | Remember | Wait | LookAgain


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitFacts:
    """What a policy may look at for one circuit. `available_wh` is None for a circuit without an account.

    `sample` is None when the circuit is looked at without a new sample. `fresh` says that an accepted register
    is within the stale limit, `sample_is_new` that the sample was taken after the last command's read-back,
    `sample_is_believed` that it is new and its register is not in doubt: only then may it end a trip.
    `watched` is what the rule has made of the samples so far (`Policy.watch`).
    """

    circuit_id: str
    kind: str
    available_wh: int | None
    fresh: bool
    sampled_at: datetime | None
    sampling_period_s: float | None
    sample: ChannelSample | None
    holds: tuple[Hold, ...]
    keep_supply: bool
    payment_pending_since: datetime | None
    warnings: Warnings
    sample_is_new: bool = False
    sample_is_believed: bool = False
    watched: object = None
    restores: tuple[Restore, ...] = ()
    permits: tuple[Allowance, ...] = ()
    alarms: frozenset[str] = frozenset()
    shadow_alarms: frozenset[str] = frozenset()  # on record only
    shadow_only: bool = False  # restored books that nobody has confirmed yet: no policy opens a relay


class Policy(Protocol):
    """One rule: looks at facts, proposes to place or release its own holds. Pure; asked until it waits."""

    @property
    def rule(self) -> str:
        """Who its holds are placed by: "rule:NAME"."""

    @property
    def reason(self) -> Reason:
        """What its holds say."""

    @property
    def counts_when_changed(self) -> bool:
        """Whether the breaker counts its cuts while the rule has changed within a day (invariant 24)."""

    @property
    def quiet_above_wh(self) -> int | None:
        """Above this balance it gives nothing to decide; None where a balance never does."""

    def described(self) -> Mapping[str, Any]:
        """Return the rule's configuration as JSON values: what tells one version from the next."""

    def mode_of(self, circuit_id: str) -> Enforcement:
        """Return the mode in force for a circuit."""

    def keeps(self, circuit_id: str, hold: Hold, *, shadow_only: bool, now: datetime) -> bool:
        """Whether a standing hold of the rule may go on: such a one, enforced or shadow, can be in force."""

    def watch(self, circuit_id: str, before: object, sample: ChannelSample, at: datetime) -> object:
        """Return what the rule makes of the samples after one more; asked for every sample, so cheap."""

    def wants_look(self, watched: object) -> bool:
        """Whether what was made of the samples asks for a decision; not asked where that is None."""

    def freeze(self, watched: object, own: Sequence[Hold]) -> Mapping[str, Any] | None:
        """Return what has to survive a restart, as JSON values; None where nothing has.

        `own` are the rule's standing holds: what one stands for has been dealt with.
        """

    def thaw(self, memory: Mapping[str, Any]) -> object:
        """Return what `freeze` wrote as what it was."""

    def begin(self, circuit_id: str, last: ChannelSample, at: datetime) -> object:
        """Return what the rule makes of the last run's last sample, where it had frozen nothing."""

    def carried_over(self, watched: object) -> object:
        """Return what of an earlier configuration's watching this one goes on with."""

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return what to do now."""


@runtime_checkable
class Watching(Policy, Rests, Protocol):
    """A policy that makes something of the samples, and says for which of them it need not."""


@runtime_checkable
class Timed(Protocol):
    """A policy whose decisions fall due at instants, without a sample: schedules."""

    def refresh(self, connection: Connection, *, now: datetime) -> None:
        """Take over from the books what the rule goes by; called before circuits are looked at again."""

    def next_look_at(
        self, circuit_id: str, *, holds: tuple[Hold, ...], keep_supply: bool, shadow_only: bool, now: datetime
    ) -> datetime | None:
        """Return when a circuit has to be looked at, `now` where something is due: asked at the start."""


class WatchesNothing:
    """What a rule has that makes nothing of the samples themselves."""

    __slots__ = ()

    def watch(self, circuit_id: str, before: object, sample: ChannelSample, at: datetime) -> object:  # noqa: ARG002
        """Make nothing of it."""
        return None

    def wants_look(self, watched: object) -> bool:  # noqa: ARG002
        """Ask for nothing."""
        return False

    def freeze(self, watched: object, own: Sequence[Hold]) -> Mapping[str, Any] | None:  # noqa: ARG002
        """Keep nothing."""
        return None

    def thaw(self, memory: Mapping[str, Any]) -> object:  # noqa: ARG002
        """Take nothing back."""
        return None

    def begin(self, circuit_id: str, last: ChannelSample, at: datetime) -> object:  # noqa: ARG002
        """Begin with nothing."""
        return None

    def carried_over(self, watched: object) -> object:  # noqa: ARG002
        """Go on with nothing."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Generic[PolicyT]):
    """A policy's values by circuit, and how the site configured them: what its fingerprint is taken from."""

    by_circuit: Mapping[str, PolicyT]
    configured: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ArrearsRule(WatchesNothing):
    """Arrears as a policy of the gateway."""

    placed: Placed[ArrearsPolicy]
    rule: str = arrears.RULE
    reason: Reason = Reason.ARREARS
    counts_when_changed: bool = True
    quiet_above_wh: int = field(init=False)

    def __post_init__(self) -> None:
        """Work out every place's first threshold: above it there is nothing to decide."""
        highest = max((policy.low_wh for policy in self.placed.by_circuit.values()), default=0)
        object.__setattr__(self, "quiet_above_wh", highest)

    def described(self) -> Mapping[str, Any]:
        """Return what the site configured."""
        return self.placed.configured

    def mode_of(self, circuit_id: str) -> Enforcement:
        """Return the mode in force for a circuit."""
        policy = self.placed.by_circuit.get(circuit_id)
        return Enforcement.OFF if policy is None else policy.mode

    def keeps(self, circuit_id: str, hold: Hold, *, shadow_only: bool, now: datetime) -> bool:  # noqa: ARG002
        """Whether the circuit's mode has such holds."""
        return mode_of_hold(hold) is in_shadow_only(self.mode_of(circuit_id), shadow_only=shadow_only)

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return the next step, at most one."""
        policy = self.placed.by_circuit.get(facts.circuit_id)
        if facts.available_wh is None or policy is None:
            return ()
        mine = [hold for hold in facts.holds if hold.reason is Reason.ARREARS]
        decision = arrears.decide(
            ArrearsFacts(
                available_wh=facts.available_wh,
                fresh=facts.fresh,
                sampled_at=facts.sampled_at,
                sampling_period_s=facts.sampling_period_s,
                standing=any(not hold.shadow for hold in mine),
                standing_shadow=any(hold.shadow for hold in mine),
                keep_supply=facts.keep_supply,
                payment_pending_since=facts.payment_pending_since,
                warnings=facts.warnings,
            ),
            in_mode(policy, mode_in_force(policy.mode, facts)),
            now=now,
        )
        return () if decision is None else (decision,)


def described(policy: "DataclassInstance") -> dict[str, Any]:
    """Return a policy's settings as JSON values, without what is worked out from them."""
    return {
        one.name: plain(getattr(policy, one.name)) for one in fields(policy) if one.init and one.name != "zone"
    }


def plain(value: Any) -> Any:
    """Return a value as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return described(value)
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value


def mode_in_force(mode: Enforcement, facts: CircuitFacts) -> Enforcement:
    """Return the mode that counts for a circuit looked at."""
    return in_shadow_only(mode, shadow_only=facts.shadow_only)


def in_shadow_only(mode: Enforcement, *, shadow_only: bool) -> Enforcement:
    """Return the mode that counts: restored books that nobody has confirmed yet open no relay."""
    return Enforcement.SHADOW if shadow_only and mode is Enforcement.ENFORCE else mode


def strictest(modes: Collection[Enforcement]) -> Enforcement:
    """Return the mode that counts most of several."""
    return next((mode for mode in (Enforcement.ENFORCE, Enforcement.SHADOW) if mode in modes), Enforcement.OFF)


def mode_of_hold(hold: Hold) -> Enforcement:
    """Return the mode in which a hold was placed."""
    return Enforcement.SHADOW if hold.shadow else Enforcement.ENFORCE


def in_mode(policy: Any, mode: Enforcement) -> Any:
    """Return a policy as it would be in a mode."""
    return policy if policy.mode is mode else replace(policy, mode=mode)
