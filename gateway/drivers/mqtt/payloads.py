"""The payloads between modules and the gateway, checked strictly: a number is never text, nor text a number.

Keys that are not known are passed over, and so are unknown flags: the messages grow, and a module with newer
firmware must not go dark. What is known must be right, or the whole message is refused with a named reason.
"""

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Protocol

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from dormpower.domain.samples import ChannelSample, Flag, ModuleSample, Relay
from dormpower.domain.units import MAX_ENERGY_WH

MAX_PAYLOAD_BYTES = 16 * 1024
MAX_CHANNELS = 32
MIN_YEAR, MAX_YEAR = 1999, 2200  # outside these a clock is not wrong but unset
_FLAGS = {flag.value: flag for flag in Flag}

Text = Annotated[str, Field(min_length=1, max_length=128)]
Quantity = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _instant(value: Any) -> Any:
    """Read RFC 3339 ourselves: pydantic would take a number of seconds written as text for a time too."""
    if not isinstance(value, str):
        return value
    if not _RFC_3339.fullmatch(value):
        raise ValueError("expected RFC 3339, such as 2026-03-01T08:00:00Z")
    at = datetime.fromisoformat(value.upper())
    if not MIN_YEAR < at.year < MAX_YEAR:
        raise ValueError(f"expected a year from {MIN_YEAR + 1} to {MAX_YEAR - 1}")
    return at.astimezone(UTC)


At = Annotated[AwareDatetime, BeforeValidator(_instant)]


class Refusal(StrEnum):
    """Why a message was refused; the counters go by these."""

    TOO_LARGE = "too_large"
    BAD_READING = "bad_reading"
    BAD_STATUS = "bad_status"
    BAD_RESULT = "bad_result"


class UnableToUsePayloadError(Exception):
    """A message that can't be used. It is counted and acknowledged: sent again it would be no better."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal


class Outcome(StrEnum):
    """How a module says that a command ended."""

    DONE = "done"
    EXPIRED = "expired"
    REPEATED = "repeated"
    REFUSED = "refused"
    FAILED = "failed"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Channel(_Message):
    channel: Annotated[int, Field(ge=0, lt=MAX_CHANNELS)]
    wh: Annotated[int, Field(ge=0, le=MAX_ENERGY_WH)] | None = None
    v: Quantity | None = None
    a: Quantity | None = None
    w: Quantity | None = None
    pf: Annotated[float, Field(allow_inf_nan=False, ge=-1, le=1)] | None = None
    relay: Relay | None = None
    flags: Annotated[list[Text], Field(max_length=32)] = []

    def sample(self) -> ChannelSample:
        """Return the channel as drivers hand it on."""
        return ChannelSample(
            channel=self.channel,
            register_wh=self.wh,
            voltage_v=self.v,
            current_a=self.a,
            power_w=self.w,
            power_factor=self.pf,
            relay=self.relay,
            flags=frozenset(_FLAGS[name] for name in self.flags if name in _FLAGS),
        )


class _Reading(_Message):
    at: At | None
    boot_id: Text | None = None
    seq: Count | None = None
    channels: Annotated[list[_Channel], Field(min_length=1, max_length=MAX_CHANNELS)]

    @field_validator("channels")
    @classmethod
    def _each_channel_once(cls, channels: list[_Channel]) -> list[_Channel]:
        if len({channel.channel for channel in channels}) != len(channels):
            raise ValueError("each channel at most once")
        return channels


class Result(_Message):
    """The end of a command as the module tells it; `relay` is its own report."""

    id: Text
    outcome: Outcome
    relay: Relay | None = None
    at: At | None = None


class Messages(Protocol):
    """How one model of module words its readings; a vendor's own wording is another one of these."""

    def sample(self, payload: bytes, *, module_id: str, arrived_at: datetime) -> ModuleSample:
        """Return a reading message as a sample. Raises UnableToUsePayloadError."""


class DormpowerMessages:
    """The wording of `docs/interfaces.md`, profile `dormpower-mqtt`."""

    def sample(self, payload: bytes, *, module_id: str, arrived_at: datetime) -> ModuleSample:
        """Return a reading message as a sample; without a time of its own it is stamped `arrived_at`."""
        check_size(payload)
        try:
            reading = _Reading.model_validate_json(payload)
        except ValidationError as fault:
            raise UnableToUsePayloadError(Refusal.BAD_READING, _told(fault)) from fault
        return ModuleSample(
            module_id=module_id,
            at=arrived_at if reading.at is None else reading.at,
            channels=tuple(channel.sample() for channel in reading.channels),
            boot_id=reading.boot_id,
            seq=reading.seq,
        )


def parse_status(payload: bytes) -> bool:
    """Return whether the module is online. Raises UnableToUsePayloadError."""
    if payload not in (b"online", b"offline"):
        raise UnableToUsePayloadError(
            Refusal.BAD_STATUS, f"expected online or offline, got {len(payload)} bytes of something else"
        )
    return payload == b"online"


def parse_result(payload: bytes) -> Result:
    """Return the end of a command. Raises UnableToUsePayloadError."""
    check_size(payload)
    try:
        return Result.model_validate_json(payload)
    except ValidationError as fault:
        raise UnableToUsePayloadError(Refusal.BAD_RESULT, _told(fault)) from fault


def command_payload(*, command_id: str, channel: int, relay: Relay, expires_at: datetime) -> bytes:
    """Write a command; `expires_at` is real time, after it the module must not act (invariant 17)."""
    return json.dumps(
        {"id": command_id, "channel": channel, "relay": relay.value, "expires_at": expires_at.isoformat()},
        separators=(",", ":"),
    ).encode()


def check_size(payload: bytes) -> None:
    """Raise UnableToUsePayloadError for a message that no module has reason to send."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise UnableToUsePayloadError(
            Refusal.TOO_LARGE, f"expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}"
        )


def _told(fault: ValidationError) -> str:
    """Say where and what of the first fault, without repeating what was sent."""
    first = fault.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "payload"
    return f"{place}: {first['msg']}"
