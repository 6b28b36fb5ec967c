"""Loading device profiles: those shipped beside this file, and a site's own folder; every fault at once.

A new model needs a file and no code. A site's own profile may not take a shipped one's name: two maps under one
name would be read as one.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.faults import Fault, Findings, did_you_mean, show_key, show_path, show_value
from config.profile_file import (
    ModbusProfile,
    MqttProfile,
    Profile,
    Quantities,
    Quantity,
)
from config.yaml_source import read_yaml
from dormpower.domain.flags import Meaning

__all__ = ["ModbusProfile", "MqttProfile", "Profile", "UnableToLoadProfilesError", "load_profiles"]

SHIPPED = Path(__file__).parent / "profiles"
_KINDS: Mapping[str, type[ModbusProfile] | type[MqttProfile]] = {"modbus": ModbusProfile, "mqtt": MqttProfile}
_TEMPLATE = re.compile(r"\{[a-z0-9_]*\}")
_TOPIC_NAMES = frozenset({"{site}", "{module}"})
_CHANNEL_NAMES = frozenset({"{channel}", "{channel_1}"})
_COIL_VALUES = frozenset({0x0000, 0xFF00})
_TRIPS = frozenset({Meaning.TRIP, Meaning.TRIP_AND_ALARM})


class UnableToLoadProfilesError(Exception):
    """Profiles can't be used as they are written; `faults` holds everything that is wrong."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


def load_profiles(extra_folder: Path | None = None) -> Mapping[str, Profile]:
    """Return all profiles by name. Raises UnableToLoadProfilesError with every fault of every file."""
    profiles: dict[str, Profile] = {}
    sources: dict[str, str] = {}
    faults: list[Fault] = []
    for path in _files(extra_folder):
        findings = Findings(show_path(path))
        profile = _read(path, findings)
        if profile is not None:
            if profile.name in profiles:
                findings.refuse("name", f"{profile.name!r} is already the profile of {sources[profile.name]}")
            else:
                profiles[profile.name] = profile
                sources[profile.name] = findings.file
        faults.extend(findings)
    if faults:
        raise UnableToLoadProfilesError(faults)
    return profiles


def _files(extra_folder: Path | None) -> Iterator[Path]:
    yield from sorted(SHIPPED.glob("*.yaml"))
    if extra_folder is None:
        return
    if not extra_folder.is_dir():
        raise UnableToLoadProfilesError(
            [Fault(file=show_path(extra_folder), key="", message="expected a folder of profiles, got none")]
        )
    yield from sorted(extra_folder.glob("*.yaml"))


def _read(path: Path, findings: Findings) -> Profile | None:
    document = read_yaml(path, findings)
    if document is None:
        return None
    kind = document.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        findings.refuse("kind", f"expected modbus or mqtt, got {show_value(kind)}")
        return None
    try:
        profile = model.model_validate(document)
    except ValidationError as fault:
        for error in fault.errors(include_url=False, include_context=False):
            key, message = _describe(error, document, model)
            findings.refuse(key, message)
        return None
    if profile.name != path.stem:
        findings.refuse("name", f"expected {path.stem!r} as the file is called, got {profile.name!r}")
    if isinstance(profile, ModbusProfile):
        _check_modbus(profile, findings)
    else:
        _check_mqtt(profile, findings)
    _check_flag_meanings(profile, findings)
    return profile


# --- what takes several values to see ------------------------------------------------------------------------


def _check_modbus(profile: ModbusProfile, findings: Findings) -> None:
    if profile.channels.count > 1 and profile.channels.stride == 0:
        findings.refuse(
            "channels.stride", f"expected registers between {profile.channels.count} channels, got 0"
        )
    if profile.phases != max(1, len(profile.phase_quantities)) and profile.phase_quantities:
        findings.refuse(
            "phase_quantities", f"expected {profile.phases} phases, got {len(profile.phase_quantities)}"
        )
    last = profile.channels.stride * (profile.channels.count - 1)
    for key, quantity in _quantities(profile):
        if quantity.address + last + quantity.registers > 0x10000:
            findings.refuse(f"{key}.address", f"beyond 0xFFFF in channel {profile.channels.count - 1}")
        if quantity.registers > profile.read.max_registers:
            findings.refuse(
                f"{key}.type",
                f"takes {quantity.registers} registers, read.max_registers is {profile.read.max_registers}",
            )
    _check_relay(profile, findings)


def _quantities(profile: ModbusProfile) -> Iterator[tuple[str, Quantity]]:
    for name in Quantities.model_fields:
        quantity = getattr(profile.quantities, name)
        if quantity is not None:
            yield f"quantities.{name}", quantity
    for index, phase in enumerate(profile.phase_quantities):
        for name in type(phase).model_fields:
            quantity = getattr(phase, name)
            if quantity is not None:
                yield f"phase_quantities[{index}].{name}", quantity


def _check_relay(profile: ModbusProfile, findings: Findings) -> None:
    if profile.relay is None:
        return
    write, state = profile.relay.write, profile.relay.state
    for name, words in (("open", write.open), ("close", write.close)):
        if write.function != 16 and len(words) != 1:
            findings.refuse(
                f"relay.write.{name}", f"expected 1 word for function {write.function}, got {len(words)}"
            )
        if write.function == 5 and not _COIL_VALUES.issuperset(words):
            findings.refuse(f"relay.write.{name}", "expected 0x0000 or 0xFF00 for function 5")
    if write.open == write.close:
        findings.refuse("relay.write.close", "expected other words than those that open")
    last = profile.channels.stride * (profile.channels.count - 1)
    longest = max(len(write.open), len(write.close))
    if write.address + last + longest > 0x10000:
        findings.refuse("relay.write.address", f"beyond 0xFFFF in channel {profile.channels.count - 1}")
    for channel in range(profile.channels.count):
        first = write.address + channel * profile.channels.stride
        harmful = set(range(first, first + longest)) & set(profile.never_write)
        if harmful and write.function != 5:
            findings.refuse("relay.write.address", f"writes 0x{min(harmful):04X}, which never_write forbids")
    if state is None:
        return
    values = state.open is not None and state.closed is not None
    forms = (state.bit is not None) + values + state.is_coil
    if forms != 1 or (state.open is None) != (state.closed is None):
        findings.refuse("relay.state", "expected one of: bit; open and closed; function 1 or 2")
    elif values and state.open == state.closed:
        findings.refuse("relay.state.closed", "expected another value than that of open")


def _check_flag_meanings(profile: Profile, findings: Findings) -> None:
    for flag, meaning in profile.flag_meanings.items():
        key = f"flag_meanings.{flag}"
        if flag not in profile.reported_flags:
            place = "flags.bits" if isinstance(profile, ModbusProfile) else "message.flags.names"
            findings.refuse(key, f"expected a flag of {place}, got one that the model does not have")
        elif meaning in _TRIPS and not profile.confirms:
            findings.refuse(
                key, f"expected alarm or ignored where no relay is read back, got {meaning.value!r}"
            )


def _check_mqtt(profile: MqttProfile, findings: Findings) -> None:
    seen: dict[str, str] = {}
    for name, topic in profile.topics:
        if topic is None:
            continue
        known = _TOPIC_NAMES | (_CHANNEL_NAMES if name == "command" else frozenset())
        names = set(_TEMPLATE.findall(topic))
        bare = _TEMPLATE.sub("", topic)
        if "{module}" not in names or not names <= known or set(bare) & set("#+{}\0"):
            findings.refuse(f"topics.{name}", f"expected a topic with {{module}}, got {show_value(topic)}")
        if topic in seen:
            findings.refuse(f"topics.{name}", f"expected another topic than that of topics.{seen[topic]}")
        seen.setdefault(topic, name)
    for part, topic, what in (
        ("command", profile.topics.command, "the commands"),
        ("result", profile.topics.result, "the results"),
    ):
        described = getattr(profile, part) is not None
        if described and topic is None:
            findings.refuse(f"topics.{part}", f"expected a topic for {what}, got nothing")
        if topic is not None and not described:
            findings.refuse(part, f"expected the shape of {what}, got nothing")
    _check_words(profile, findings)
    _check_mqtt_channels(profile, findings)


def _check_words(profile: MqttProfile, findings: Findings) -> None:
    relay, command, result = profile.message.relay, profile.command, profile.result
    if relay is not None and relay.open == relay.closed:
        findings.refuse("message.relay.closed", "expected another word than that of open")
    if profile.status.online == profile.status.offline:
        findings.refuse("status.offline", "expected another word than that of online")
    if command is not None:
        if (command.open is None) != (command.closed is None):
            findings.refuse("command", "expected both open and closed, got one of them")
        elif command.open is not None and command.open == command.closed:
            findings.refuse("command.closed", "expected another word than that of open")
    if result is None:
        return
    if command is None:
        findings.refuse("result", "expected commands that results can answer, got none")
    elif command.id is None or command.form == "text":
        findings.refuse("result", "expected commands with an id, by which a result is matched")
    if len(set(map(repr, result.outcomes.values()))) != len(result.outcomes):
        findings.refuse("result.outcomes", "expected each word once")
    if "done" not in result.outcomes:
        findings.refuse("result.outcomes", "expected a word for done")


def _check_mqtt_channels(profile: MqttProfile, findings: Findings) -> None:
    message, command = profile.message, profile.command
    if message.channel is not None and message.channels is None:
        findings.refuse("message.channel", "expected none where the message is one object")
    several = profile.channels.count > 1
    templates = _channel_templates(profile)
    if several and message.channels is None:
        for key, text in templates:
            if not _CHANNEL_NAMES & set(_TEMPLATE.findall(text)):
                findings.refuse(key, f"expected {{channel}} or {{channel_1}} in it, got {show_value(text)}")
    if command is not None and several:
        in_topic = _CHANNEL_NAMES & set(_TEMPLATE.findall(profile.topics.command or ""))
        if not in_topic and (command.channel is None or command.form == "text"):
            findings.refuse("command.channel", "expected a key, or {channel} in topics.command")


def _channel_templates(profile: MqttProfile) -> Iterator[tuple[str, str]]:
    """Yield the paths that no two channels can share; volts, hertz and a module's flags they can."""
    for name in ("register_wh", "current_a", "power_w"):
        quantity = getattr(profile.message.quantities, name)
        if quantity is not None:
            yield f"message.quantities.{name}.path", quantity.path
    if profile.message.relay is not None:
        yield "message.relay.path", profile.message.relay.path


# --- telling a person ----------------------------------------------------------------------------------------


def _describe(error: ErrorDetails, document: Any, model: type[BaseModel]) -> tuple[str, str]:
    place = [part for part in error["loc"] if part != "[key]"]
    found, expected = document, ""
    current: type[BaseModel] | None = model
    known = list(model.model_fields)
    for part in place:
        found = found.get(part) if isinstance(found, Mapping) else _item(found, part)
        info = current.model_fields.get(str(part)) if current is not None else None
        if info is None:
            continue
        expected = info.description or _described(info.metadata) or _described_in(info.annotation) or expected
        current = _model_of(info.annotation)
        if part != place[-1]:
            known = list(current.model_fields) if current else known
    key = show_key(place)
    name = str(place[-1]) if place else ""
    if error["type"] == "extra_forbidden":
        return key, f"unknown key{did_you_mean(name, known)}"
    if error["loc"][-1:] == ("[key]",):
        return key, f"unknown flag{did_you_mean(name, [])}; expected {expected}"
    return key, f"expected {expected or error['msg'].lower()}, got {show_value(found, key=name)}"


def _item(found: Any, part: str | int) -> Any:
    return found[part] if isinstance(found, list) and isinstance(part, int) and part < len(found) else None


def _described(metadata: Any) -> str:
    return next((item.description for item in metadata if getattr(item, "description", None)), "")


def _described_in(annotation: Any) -> str:
    own = _described(getattr(annotation, "__metadata__", ()))
    return own or next((text for item in get_args(annotation) if (text := _described_in(item))), "")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for item in get_args(annotation) if (model := _model_of(item))), None)
