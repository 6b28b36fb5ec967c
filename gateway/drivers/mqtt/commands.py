"""Commands on their way over MQTT: each is sent once and waits until it has expired for what confirms it.

What confirms a command is the module's own report: its result where the profile has results, else its next
reading that shows the wanted relay. A profile with neither ends unconfirmed as soon as the command is sent.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dormpower.clock import Clock
from dormpower.domain.samples import ChannelSample, Relay
from gateway.drivers.mqtt.payloads import Outcome, Result
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.ports import SwitchOutcome, SwitchResult

RESULT_GRACE_S = 1.0  # the module may act up to the last instant, and its answer then needs a moment


@dataclass(frozen=True, slots=True)
class _Waiting:
    module_id: str
    channel: int
    relay: Relay
    by_reading: bool
    result: asyncio.Future[Result]


class Commands:
    """The commands that wait for a result; belongs to one event loop."""

    def __init__(self, *, clock: Clock, grace_s: float = RESULT_GRACE_S) -> None:
        self._clock = clock
        self._grace_s = grace_s
        self._waiting: dict[str, _Waiting] = {}

    async def carry_out(
        self,
        *,
        publish: Callable[[bytes, float], bool],
        messages: ProfileMessages,
        module_id: str,
        channel: int,
        relay: Relay,
        command_id: str,
        expires_at: datetime,
    ) -> SwitchResult:
        """Publish a command (payload, seconds until it expires) and return how it ended."""
        if command_id in self._waiting:
            return SwitchResult(outcome=SwitchOutcome.REFUSED, detail=f"command {command_id} is under way")
        left_s = (expires_at - self._clock.real_now()).total_seconds()
        if left_s <= 0:
            return SwitchResult(outcome=SwitchOutcome.EXPIRED, detail="expired before it was sent")
        payload = messages.command(command_id=command_id, channel=channel, relay=relay, expires_at=expires_at)
        profile = messages.profile
        waiting = _Waiting(
            module_id=module_id,
            channel=channel,
            relay=relay,
            by_reading=profile.result is None,
            result=asyncio.get_running_loop().create_future(),
        )
        self._waiting[command_id] = waiting
        try:
            if not publish(payload, left_s):
                return SwitchResult(outcome=SwitchOutcome.LINE_DOWN, detail="no connection to the MQTT broker")
            if profile.result is None and not profile.confirms:
                return SwitchResult(
                    outcome=SwitchOutcome.UNCONFIRMED, detail=f"{profile.name} documents no read-back"
                )
            async with asyncio.timeout(left_s + self._grace_s):
                return switch_result(await waiting.result, wanted=relay)
        except TimeoutError:
            return SwitchResult(
                outcome=SwitchOutcome.TIMED_OUT, detail="no report of it before the command expired"
            )
        finally:
            del self._waiting[command_id]

    def take_result(self, module_id: str, result: Result) -> bool:
        """Hand a result to the command that waits for it; False where none of that module does."""
        waiting = self._waiting.get(result.id)
        if waiting is None or waiting.module_id != module_id or waiting.result.done():
            return False
        waiting.result.set_result(result)
        return True

    def take_reading(self, module_id: str, channels: Sequence[ChannelSample]) -> None:
        """Confirm what waits for a reading and is shown by this one; the other state may still change."""
        if not self._waiting:
            return
        relays = {channel.channel: channel.relay for channel in channels}
        for command_id, waiting in self._waiting.items():
            shown = waiting.module_id == module_id and relays.get(waiting.channel) is waiting.relay
            if waiting.by_reading and shown and not waiting.result.done():
                waiting.result.set_result(Result(id=command_id, outcome=Outcome.DONE, relay=waiting.relay))


def switch_result(result: Result, *, wanted: Relay) -> SwitchResult:
    """Translate a module's result; its relay is its own report, and only that confirms (invariant 16)."""
    detail = f"the module says {result.outcome}"
    match result.outcome:
        case Outcome.DONE | Outcome.REPEATED | Outcome.FAILED if result.relay is not None:
            followed = result.relay is wanted and result.outcome is not Outcome.FAILED
            outcome = SwitchOutcome.CONFIRMED if followed else SwitchOutcome.NOT_FOLLOWED
        case Outcome.DONE | Outcome.REPEATED:
            outcome = SwitchOutcome.UNCONFIRMED
        case Outcome.FAILED:
            outcome = SwitchOutcome.NOT_FOLLOWED
        case Outcome.EXPIRED:
            outcome = SwitchOutcome.EXPIRED
        case Outcome.REFUSED:
            outcome = SwitchOutcome.REFUSED
    return SwitchResult(outcome=outcome, relay=result.relay, detail=detail)
