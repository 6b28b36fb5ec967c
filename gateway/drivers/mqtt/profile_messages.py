"""The messages of one model of module, as its profile words them: readings, status, commands and results.

Keys that are not known are passed over, and so are unknown flags: messages grow, and a module with newer
firmware must not go dark. What the profile names must be right, or the whole message is refused by name.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any, Protocol, TypeVar

from config.profile_file import MqttCommand, MqttQuantity, MqttRelay
from config.profiles import MqttProfile
from dormpower.domain.samples import ChannelSample, Flag, ModuleSample, Relay
from dormpower.domain.units import MAX_ENERGY_WH, round_half_even
from gateway.drivers.mqtt.json_fields import (
    MISSING,
    Path,
    UnableToReadFieldError,
    count,
    exact,
    find,
    instant,
    items,
    read_object,
    show_place,
    text,
)
from gateway.drivers.mqtt.payloads import (
    MAX_CHANNELS,
    Outcome,
    Refusal,
    Result,
    UnableToUsePayloadError,
    check_size,
)

_MAX_FLAGS = 32
_LARGEST: Mapping[str, int] = {"power_factor": 1}
_LARGEST_OTHER = 10**9

T_co = TypeVar("T_co", covariant=True)


def for_channel(template: str, channel: int) -> str:
    """Fill a channel's number into a path or a topic; `{channel}` counts from 0, `{channel_1}` from 1."""
    return template.replace("{channel}", str(channel)).replace("{channel_1}", str(channel + 1))


class _Read(Protocol[T_co]):
    def __call__(self, value: Any, /, *, place: str) -> T_co: ...


class ProfileMessages:
    """One profile's wording; shared by all modules of the model."""

    def __init__(self, profile: MqttProfile) -> None:
        self.profile = profile
        message = profile.message
        self._at = _path(message.at)
        self._boot_id = _path(message.boot_id)
        self._seq = _path(message.seq)
        self._list = _path(message.channels)
        self._number = _path(message.channel)
        self._layouts = [
            _Layout(profile, channel) for channel in range(1 if self._list else profile.channel_count)
        ]
        relay = message.relay
        self._words = _Words(relay.open, relay.closed) if relay is not None else _Words("open", "closed")

    def sample(self, payload: bytes, *, module_id: str, arrived_at: datetime) -> ModuleSample:
        """Return a reading as a sample; without a time of its own it is stamped `arrived_at`.

        Raises UnableToUsePayloadError.
        """
        check_size(payload)
        try:
            document = read_object(payload)
            return ModuleSample(
                module_id=module_id,
                at=self._sampled_at(document) or arrived_at,
                boot_id=_optional(document, self._boot_id, text),
                seq=_optional(document, self._seq, count),
                channels=tuple(self._channels(document)),
            )
        except UnableToReadFieldError as fault:
            raise UnableToUsePayloadError(Refusal.BAD_READING, str(fault)) from fault

    def status(self, payload: bytes) -> bool:
        """Return whether the module says that it is online. Raises UnableToUsePayloadError."""
        words = self.profile.status
        if payload == words.online.encode():
            return True
        if payload == words.offline.encode():
            return False
        raise UnableToUsePayloadError(
            Refusal.BAD_STATUS,
            f"expected {words.online} or {words.offline}, got {len(payload)} bytes of something else",
        )

    def result(self, payload: bytes) -> Result:
        """Return the end of a command. Raises UnableToUsePayloadError."""
        check_size(payload)
        shape = self.profile.result
        if shape is None:
            raise UnableToUsePayloadError(Refusal.BAD_RESULT, "the profile describes no results")
        try:
            document = read_object(payload)
            at = _path(shape.at)
            if at:
                _optional(document, at, lambda value, place: instant(value, form="rfc3339", place=place))
            named = find(document, _path(shape.outcome))
            outcome = next((name for name, word in shape.outcomes.items() if _same(named, word)), None)
            if outcome is None:
                raise UnableToReadFieldError(shape.outcome, "a word for an outcome")
            return Result(
                id=text(find(document, _path(shape.id)), place=shape.id),
                outcome=Outcome(outcome),
                relay=_optional(document, _path(shape.relay), self._words.relay),
            )
        except UnableToReadFieldError as fault:
            raise UnableToUsePayloadError(Refusal.BAD_RESULT, str(fault)) from fault

    def command(self, *, command_id: str, channel: int, relay: Relay, expires_at: datetime) -> bytes:
        """Write a command; `expires_at` is real time, after it the module must not act (invariant 17)."""
        shape = self.profile.command or MqttCommand()
        words = self._words
        if shape.open is not None and shape.closed is not None:
            words = _Words(shape.open, shape.closed)
        word = words.word(relay)
        if shape.form == "text":
            return (word if isinstance(word, str) else json.dumps(word)).encode()
        command: dict[str, Any] = {}
        for key, value in (
            *shape.constants.items(),
            (shape.id, command_id),
            (shape.channel, channel),
            (shape.relay, word),
            (shape.expires_at, expires_at.isoformat()),
        ):
            if key is not None:
                _put(command, _path(key), value)
        return json.dumps(command, separators=(",", ":"), ensure_ascii=False).encode()

    def _sampled_at(self, document: dict[str, Any]) -> datetime | None:
        message = self.profile.message
        if message.at is None:
            return None
        value = find(document, self._at)
        if value is None:
            return None
        if value is MISSING:
            raise UnableToReadFieldError(message.at, "a time or null, got nothing")
        return instant(value, form=message.at_form, place=message.at)

    def _channels(self, document: dict[str, Any]) -> Iterator[ChannelSample]:
        if not self._list:
            channels = [
                layout.sample(document, channel=number, under="") for number, layout in enumerate(self._layouts)
            ]
            if all(channel == ChannelSample(channel=channel.channel) for channel in channels):
                raise UnableToReadFieldError(
                    "payload", "a quantity, a relay or a flag of the profile, got none"
                )
            yield from channels
            return
        under = show_place(self._list)
        listed = items(find(document, self._list), place=under, at_least=1, at_most=MAX_CHANNELS)
        seen: set[int] = set()
        for index, item in enumerate(listed):
            place = f"{under}.{index}"
            if not isinstance(item, dict):
                raise UnableToReadFieldError(place, "an object")
            number = index
            if self._number:
                number = count(
                    find(item, self._number, under=place),
                    place=show_place(self._number, under=place),
                    below=MAX_CHANNELS,
                )
            if number in seen:
                raise UnableToReadFieldError(under, "each channel at most once")
            seen.add(number)
            yield self._layouts[0].sample(item, channel=number, under=place)


@dataclass(frozen=True, slots=True)
class _Words:
    open: str | int
    closed: str | int

    def word(self, relay: Relay) -> str | int:
        return self.open if relay is Relay.OPEN else self.closed

    def relay(self, value: Any, /, *, place: str) -> Relay:
        for relay in Relay:
            if _same(value, self.word(relay)):
                return relay
        raise UnableToReadFieldError(place, f"{self.open} or {self.closed}")


class _Layout:
    """Where one channel's values stand: the profile's paths, taken apart once."""

    def __init__(self, profile: MqttProfile, channel: int) -> None:
        message = profile.message
        quantities: list[tuple[str, MqttQuantity | None]] = list(message.quantities)
        self._quantities = [
            (name, _path(for_channel(quantity.path, channel)), quantity)
            for name, quantity in quantities
            if quantity is not None
        ]
        relay: MqttRelay | None = message.relay
        self._relay = _path(for_channel(relay.path, channel)) if relay else ()
        self._words = _Words(relay.open, relay.closed) if relay else None
        self._flags = _path(for_channel(message.flags.path, channel)) if message.flags else ()
        names = message.flags.names if message.flags else {}
        ignored = profile.meanings.ignored
        self._flag_of = {word: flag for flag, word in names.items() if flag not in ignored}

    def sample(self, item: dict[str, Any], *, channel: int, under: str) -> ChannelSample:
        values: dict[str, Any] = {}
        for name, path, quantity in self._quantities:
            found = find(item, path, under=under)
            if found is not None and found is not MISSING:
                values[name] = _quantity(name, found, quantity, place=show_place(path, under=under))
        relay = None
        if self._words is not None:
            relay = _optional(item, self._relay, self._words.relay, under=under)
        return ChannelSample(channel=channel, relay=relay, flags=self._flags_of(item, under=under), **values)

    def _flags_of(self, item: dict[str, Any], *, under: str) -> frozenset[Flag]:
        found = find(item, self._flags, under=under) if self._flags else MISSING
        if found is MISSING:
            return frozenset()
        place = show_place(self._flags, under=under)
        words = items(found, place=place, at_least=0, at_most=_MAX_FLAGS)
        named = [text(word, place=f"{place}.{index}") for index, word in enumerate(words)]
        return frozenset(self._flag_of[word] for word in named if word in self._flag_of)


def _quantity(name: str, found: Any, quantity: MqttQuantity, *, place: str) -> int | float:
    value: Fraction = exact(found, form=quantity.form, place=place) * quantity.scale
    if name == "register_wh":
        if not 0 <= value <= MAX_ENERGY_WH:
            raise UnableToReadFieldError(place, f"energy from 0 to {MAX_ENERGY_WH} Wh")
        return round_half_even(value)
    largest = _LARGEST.get(name, _LARGEST_OTHER)
    if abs(value) > largest:
        raise UnableToReadFieldError(place, f"a value from -{largest} to {largest}")
    return float(value)


def _optional(document: dict[str, Any], path: Path, read: _Read[T_co], *, under: str = "") -> T_co | None:
    """Return what stands at a path as `read` takes it; None where it is left out or null."""
    found = find(document, path, under=under) if path else MISSING
    if found is None or found is MISSING:
        return None
    return read(found, place=show_place(path, under=under))


def _same(value: Any, word: str | int) -> bool:
    """Whether a value is the word itself: true is not 1."""
    return type(value) is type(word) and bool(value == word)


def _path(key: str | None) -> Path:
    return tuple(key.split(".")) if key is not None else ()


def _put(document: dict[str, Any], path: Path, value: object) -> None:
    for step in path[:-1]:
        document = document.setdefault(step, {})
    document[path[-1]] = value
