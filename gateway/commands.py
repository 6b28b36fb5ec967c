"""`dormpower meter` and `dormpower line`: modules by hand, without the gateway.

JSON on standard output holds nothing else; refusals and field trouble are one sentence on standard error and
exit code 1. What a site file forbids is `gateway/endpoint_guard.py`'s to say.
"""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from config.profiles import ModbusProfile, Profile, load_profiles
from dormpower.clock import real_clock
from dormpower.domain.samples import ChannelSample, Relay
from dormpower.domain.site import Framer, Line, Transport
from gateway.drivers.modbus.decoding import PhaseSample
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.endpoint_guard import ByHand, EndpointGuard, guard_endpoint, site_of
from gateway.ports import FieldError, SwitchOutcome
from gateway.scan import scan_line

COMMAND_LIFE_S = 30
HIGHEST_UNIT = 247

meter = typer.Typer(no_args_is_help=True, add_completion=False, help="Read and switch one module by hand.")
relay_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Switch one relay and read back.")
meter.add_typer(relay_app, name="relay")
line = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at a whole line.")

guard: EndpointGuard = guard_endpoint


class UnableToReachModuleError(Exception):
    """The module or its line gave no usable answer; the message says which and why."""


class Parity(StrEnum):
    """A serial line's parity."""

    NONE = "N"
    EVEN = "E"
    ODD = "O"


ProfileOption = Annotated[str, typer.Option("--profile", metavar="NAME", help="The module's profile.")]
HostOption = Annotated[str | None, typer.Option("--host", metavar="H", help="A TCP host.")]
PortOption = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Its port.")]
FramerOption = Annotated[Framer, typer.Option("--framer", help="Frames on TCP.")]
SerialOption = Annotated[str | None, typer.Option("--serial", metavar="DEV", help="A serial port.")]
BaudOption = Annotated[int, typer.Option("--baud", min=300, max=1_000_000, help="Its baud rate.")]
ParityOption = Annotated[Parity, typer.Option("--parity", help="Its parity.")]
StopBitsOption = Annotated[int, typer.Option("--stop-bits", min=1, max=2, help="Its stop bits.")]
TimeoutOption = Annotated[int, typer.Option("--timeout-ms", min=10, max=60_000, help="How long to wait.")]
UnitOption = Annotated[int, typer.Option("--unit", min=1, max=HIGHEST_UNIT, help="The module's unit.")]
ChannelOption = Annotated[int, typer.Option("--channel", min=0, max=15, help="The channel, counted from 0.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Close in spite of a hold; needs --reason.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The site file; else DORMPOWER_CONFIG, ./dormpower.yaml."),
]


@meter.command("read")
def read(
    *,
    profile: ProfileOption,
    unit: UnitOption,
    host: HostOption = None,
    port: PortOption = None,
    framer: FramerOption = Framer.SOCKET,
    serial: SerialOption = None,
    baud: BaudOption = 9600,
    parity: ParityOption = Parity.NONE,
    stop_bits: StopBitsOption = 1,
    timeout_ms: TimeoutOption = 1000,
    config: ConfigOption = None,
) -> None:
    """Read one module as JSON."""
    target = _line_of(
        host=host,
        port=port,
        framer=framer,
        serial=serial,
        baud=baud,
        parity=parity,
        stop_bits=stop_bits,
        timeout_ms=timeout_ms,
    )
    found = _profile(profile, config)
    guard(ByHand(line=target, config=config, unit=unit))

    async def work(bus: ModbusLine) -> dict[str, Any]:
        samples, phases = await _module(bus, found, unit).read_with_phases()
        channels = [_shown(sample, parts) for sample, parts in zip(samples, phases, strict=True)]
        return {"profile": found.name, "unit": unit, "channels": channels}

    _print(_run(target, work))


def _switch(
    *,
    relay: Relay,
    profile: str,
    unit: int,
    channel: int,
    target: Line,
    config: Path | None,
    force: bool,
    reason: str,
) -> None:
    if force and not reason.strip():
        raise typer.BadParameter("expected --reason TEXT with --force", param_hint="--reason")
    found = _profile(profile, config)
    if channel >= found.channel_count:
        raise typer.BadParameter(
            f"expected 0–{found.channel_count - 1} for {found.name}, got {channel}", param_hint="--channel"
        )
    guard(
        ByHand(line=target, config=config, unit=unit, channel=channel, relay=relay, force=force, reason=reason)
    )
    expires_at = real_clock().real_now() + timedelta(seconds=COMMAND_LIFE_S)

    async def work(bus: ModbusLine) -> Any:
        return await _module(bus, found, unit).switch(channel=channel, relay=relay, expires_at=expires_at)

    result = _run(target, work)
    _print(
        {
            "profile": found.name,
            "unit": unit,
            "channel": channel,
            "wanted": relay,
            "relay": result.relay,
            "outcome": result.outcome,
            "detail": result.detail,
        }
    )
    if result.outcome is not SwitchOutcome.CONFIRMED:
        typer.echo(f"{result.outcome.value}: {result.detail}", err=True)
        raise typer.Exit(1)


def _relay_command(relay: Relay) -> Callable[..., None]:
    def command(
        *,
        profile: ProfileOption,
        unit: UnitOption,
        channel: ChannelOption,
        host: HostOption = None,
        port: PortOption = None,
        framer: FramerOption = Framer.SOCKET,
        serial: SerialOption = None,
        baud: BaudOption = 9600,
        parity: ParityOption = Parity.NONE,
        stop_bits: StopBitsOption = 1,
        timeout_ms: TimeoutOption = 1000,
        force: ForceOption = False,
        reason: ReasonOption = "",
        config: ConfigOption = None,
    ) -> None:
        target = _line_of(
            host=host,
            port=port,
            framer=framer,
            serial=serial,
            baud=baud,
            parity=parity,
            stop_bits=stop_bits,
            timeout_ms=timeout_ms,
        )
        _switch(
            relay=relay,
            profile=profile,
            unit=unit,
            channel=channel,
            target=target,
            config=config,
            force=force,
            reason=reason,
        )

    return command


relay_app.command("open", help="Open one relay; done only when read back.")(_relay_command(Relay.OPEN))
relay_app.command("close", help="Close one relay; done only when read back.")(_relay_command(Relay.CLOSED))


@line.callback()
def line_root() -> None:
    """Look at a whole line."""


@line.command("scan")
def scan(
    *,
    host: HostOption = None,
    port: PortOption = None,
    framer: FramerOption = Framer.SOCKET,
    serial: SerialOption = None,
    baud: BaudOption = 9600,
    parity: ParityOption = Parity.NONE,
    stop_bits: StopBitsOption = 1,
    timeout_ms: TimeoutOption = 300,
    units: Annotated[
        str, typer.Option("--units", metavar="A-B", help="Which units, as 1-32 or 1,5,7.")
    ] = "1-32",
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Only this one.")] = None,
    config: ConfigOption = None,
) -> None:
    """Find out which units answer, and which profiles fit, as JSON."""
    target = _line_of(
        host=host,
        port=port,
        framer=framer,
        serial=serial,
        baud=baud,
        parity=parity,
        stop_bits=stop_bits,
        timeout_ms=timeout_ms,
    )
    wanted = parse_units(units)
    known = _profiles(config)
    names = [profile] if profile else [name for name, one in known.items() if one.kind == "modbus"]
    profiles = {name: _profile(name, config) for name in names}
    guard(ByHand(line=target, config=config))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("units", total=len(wanted))

        async def work(bus: ModbusLine) -> list[dict[str, Any]]:
            return await scan_line(
                line=bus,
                units=wanted,
                profiles=profiles,
                clock=real_clock(),
                progress=lambda _: progress.advance(task),
            )

        found = _run(target, work)
    _print({"line": target.endpoint, "scanned": units, "units": found})


def parse_units(text: str) -> list[int]:
    """Return the units of `1-32` or `1,5,7-9`, each once, in order."""
    units: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        first = int(match[1]) if match else 0
        last = int(match[2] or match[1]) if match else 0
        if not 1 <= first <= last <= HIGHEST_UNIT:
            raise typer.BadParameter(
                f"expected units such as 1-32 within 1–247, got {text!r}", param_hint="--units"
            )
        units.update(range(first, last + 1))
    return sorted(units)


def _line_of(
    *,
    host: str | None,
    port: int | None,
    framer: Framer,
    serial: str | None,
    baud: int,
    parity: Parity,
    stop_bits: int,
    timeout_ms: int,
) -> Line:
    if serial is not None and (host is not None or port is not None):
        raise typer.BadParameter("expected --host and --port, or --serial, got both", param_hint="--serial")
    if serial is not None:
        return Line(
            line_id="by-hand",
            transport=Transport.SERIAL,
            device=serial,
            baud=baud,
            parity=parity.value,
            stop_bits=stop_bits,
            timeout_ms=timeout_ms,
        )
    if host is None or port is None:
        raise typer.BadParameter("expected --host and --port, or --serial", param_hint="--host")
    return Line(
        line_id="by-hand",
        transport=Transport.TCP,
        host=host,
        port=port,
        framer=framer,
        timeout_ms=timeout_ms,
    )


def _profiles(config: Path | None) -> Mapping[str, Profile]:
    settings = site_of(config)
    return load_profiles() if settings is None else settings.profiles


def _profile(name: str, config: Path | None) -> ModbusProfile:
    profiles = _profiles(config)
    found = profiles.get(name)
    if not isinstance(found, ModbusProfile):
        known = ", ".join(sorted(key for key, one in profiles.items() if one.kind == "modbus"))
        why = "speaks MQTT, not Modbus" if found is not None else "is unknown"
        raise typer.BadParameter(f"{name!r} {why}; expected one of {known}", param_hint="--profile")
    return found


def _module(bus: ModbusLine, profile: ModbusProfile, unit: int) -> ModbusModule:
    return ModbusModule(
        module_id=f"unit-{unit}", unit=unit, plans=PreparedPlans(profile), line=bus, clock=real_clock()
    )


def _run(target: Line, work: Callable[[ModbusLine], Coroutine[Any, Any, Any]]) -> Any:
    async def with_line() -> Any:
        bus = ModbusLine(target)
        try:
            return await work(bus)
        finally:
            bus.close()

    try:
        return asyncio.run(with_line())
    except FieldError as fault:
        raise UnableToReachModuleError(
            str(fault).removeprefix("line by-hand: ").removeprefix("line by-hand ")
        ) from fault


def _shown(sample: ChannelSample, phases: list[PhaseSample]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "channel": sample.channel,
        "register_wh": sample.register_wh,
        "voltage_v": sample.voltage_v,
        "current_a": sample.current_a,
        "power_w": sample.power_w,
        "power_factor": sample.power_factor,
        "frequency_hz": sample.frequency_hz,
        "relay": sample.relay,
        "flags": sorted(sample.flags),
    }
    if phases:
        shown["phases"] = [
            {
                "voltage_v": phase.voltage_v,
                "current_a": phase.current_a,
                "power_w": phase.power_w,
                "power_factor": phase.power_factor,
            }
            for phase in phases
        ]
    return shown


def _print(document: Any) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))
