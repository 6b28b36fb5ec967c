"""`python -m simulators --config dormpower.yaml`: the site of a site file, simulated on its real sockets."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

import structlog

from config.settings import Settings, UnableToLoadSiteError, load
from dormpower.clock import Clock, UnableToReadClockError
from dormpower.clock_keeping import keep_clock
from dormpower.event_log import log_to
from simulators.access import UnableToReadCredentialsError, load_credentials
from simulators.broker import EmbeddedBroker
from simulators.campus import Campus, build_campus
from simulators.control import CONTROL_SOCKET, ControlServer
from simulators.faults import UnableToInjectFaultError
from simulators.lines import Wire
from simulators.models import UnableToSimulateModuleError, simulated_models
from simulators.mqtt_modules import MqttFleet
from simulators.state_file import SAVE_EVERY_S, StateFile, UnableToReadStateError

log = structlog.get_logger()

CREDENTIALS_FILE = "mqtt.credentials"
LOADS_FILE = "simulator-loads.json"
_REFUSALS = (
    UnableToLoadSiteError,
    UnableToReadClockError,
    UnableToReadCredentialsError,
    UnableToReadStateError,
    UnableToSimulateModuleError,
    UnableToInjectFaultError,
    OSError,
)


async def serve(
    campus: Campus,
    *,
    folder: Path,
    stopped: asyncio.Event,
    fleet: MqttFleet | None = None,
    broker: EmbeddedBroker | None = None,
) -> None:
    """Run a campus until `stopped`: its lines, its control socket, its memory, its MQTT modules and broker."""
    state = StateFile(folder=folder, campus=campus)
    state.attach()
    control = ControlServer(campus, folder / CONTROL_SOCKET)
    try:
        if broker is not None:
            await broker.start()
            campus.broker = broker
        await campus.start()
        await control.start()
        if fleet is not None:
            await fleet.start()
        log.info("simulator.started", rooms=len(campus.rooms), modules=len(campus.modules))
        while not stopped.is_set():
            state.save(clean=False)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), SAVE_EVERY_S)
    finally:
        await control.stop()
        if fleet is not None:
            await fleet.stop()
        await campus.stop()
        if broker is not None:
            await broker.stop()
        state.save(clean=True)
        log.info("simulator.stopped")


def _load_factors(folder: Path) -> dict[str, float]:
    try:
        record = json.loads((folder / LOADS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {str(room_id): float(factor) for room_id, factor in record.items()}


async def _run(arguments: argparse.Namespace, settings: Settings, clock: Clock) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    campus = build_campus(
        settings.site,
        seed=arguments.seed,
        clock=clock,
        wire=Wire(baud=arguments.wire_baud) if arguments.wire_baud else None,
        unknown_unit_code=0x0B if arguments.unknown_unit_exception else None,
        load_factors=_load_factors(settings.folder),
        models=simulated_models(settings.profiles),
    )
    fleet = broker = None
    if settings.mqtt is not None and (campus.mqtt_modules() or arguments.broker):
        path = arguments.mqtt_credentials or settings.folder / CREDENTIALS_FILE
        credentials = load_credentials(path)
        fleet = MqttFleet(
            campus=campus,
            site_id=settings.site.site_id,
            host=settings.mqtt.host,
            port=settings.mqtt.port,
            credentials=credentials,
            every_s=arguments.publish_s or settings.gateway.poll_s,
        )
        if arguments.broker:
            broker = EmbeddedBroker(
                site_id=settings.site.site_id,
                credentials=credentials,
                gateway_user=settings.mqtt.username or "gateway",
                host=settings.mqtt.host,
                port=settings.mqtt.port,
            )
    await serve(campus, folder=settings.folder, stopped=stopped, fleet=fleet, broker=broker)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of what can be chosen."""
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    parser.add_argument("--config", type=Path, help="site file; else DORMPOWER_CONFIG or ./dormpower.yaml")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same campus")
    parser.add_argument("--broker", action="store_true", help="run the embedded broker at the site's mqtt.url")
    parser.add_argument("--mqtt-credentials", type=Path, help=f"else {CREDENTIALS_FILE} beside the site file")
    parser.add_argument("--publish-s", type=float, help="seconds between MQTT readings; else gateway.poll_s")
    parser.add_argument("--wire-baud", type=int, help="give the lines the timing of a serial bus")
    parser.add_argument("--unknown-unit-exception", action="store_true", help="Modbus TCP: 0Bh, not silence")
    return parser


def main() -> int:
    """Simulate until SIGTERM or Ctrl-C; exit code 0 then, 1 where it can't start."""
    arguments = make_parser().parse_args()
    log_to(sys.stderr)
    try:
        settings = load(arguments.config)
        with keep_clock(settings.folder) as clock:
            asyncio.run(_run(arguments, settings, clock))
    except _REFUSALS as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    except ValueError as refusal:
        sys.stderr.write(f"{LOADS_FILE}: expected room ids and factors, got {refusal}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
