"""Turning a checked site file into the domain's site.

The ids of circuits and modules are interned: the gateway looks them up many times a sample, and a key that is
the same object need not be compared letter by letter.
"""

from decimal import Decimal
from sys import intern

from config.site_file import RoomRow, SerialLine, SiteFile, TcpLine
from dormpower.domain.site import (
    Circuit,
    CircuitKind,
    Feeder,
    Framer,
    Line,
    Module,
    Room,
    Transport,
)


def served_by(row: RoomRow, kind: CircuitKind) -> tuple[str | None, int | None]:
    """Return the module and channel of a room's circuit."""
    if kind is CircuitKind.LIGHTING:
        return row.lighting_module, row.lighting_channel
    return row.ac_module, row.ac_channel


def to_line(line: TcpLine | SerialLine) -> Line:
    """Return the domain's line."""
    if isinstance(line, TcpLine):
        return Line(
            line_id=line.id,
            transport=Transport.TCP,
            host=line.host,
            port=line.port,
            framer=Framer(line.framer),
            timeout_ms=line.timeout_ms,
            gap_ms=line.gap_ms,
        )
    return Line(
        line_id=line.id,
        transport=Transport.SERIAL,
        framer=Framer.RTU,
        device=line.device,
        baud=line.baud,
        parity=line.parity,
        stop_bits=line.stop_bits,
        timeout_ms=line.timeout_ms,
        gap_ms=line.gap_ms,
    )


def to_room(row: RoomRow) -> Room:
    """Return the domain's room with its circuits."""
    circuits = []
    for kind in CircuitKind:
        module, channel = served_by(row, kind)
        if module is not None and channel is not None:
            circuits.append(
                Circuit(
                    circuit_id=intern(f"{row.room_id}-{kind}"),
                    room_id=row.room_id,
                    kind=kind,
                    module_id=intern(module),
                    channel=channel,
                )
            )
    return Room(
        room_id=row.room_id,
        campus=row.campus,
        building=row.building,
        floor=row.floor,
        name=row.name,
        rated_current_a=row.rated_current_a,
        feeder=row.feeder,
        circuits=tuple(circuits),
    )


def to_modules(file: SiteFile) -> tuple[Module, ...]:
    """Return the domain's modules."""
    return tuple(
        Module(module_id=intern(row.id), profile=row.profile, line_id=row.line, unit=row.unit)
        for row in file.modules
    )


def to_feeders(file: SiteFile) -> tuple[Feeder, ...]:
    """Return the domain's feeders, limits in whole watts."""
    return tuple(
        Feeder(
            feeder_id=row.id,
            parent=row.parent,
            limit_w=int(row.limit_kw * Decimal(1000)),
            meter_module_id=row.meter.module if row.meter else None,
            meter_channel=row.meter.channel if row.meter else None,
        )
        for row in file.feeders
    )
