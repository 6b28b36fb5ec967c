"""The demo campus as a site file: South 1–8 and 11–14 on Modbus lines, North on MQTT modules.

Nothing is opened here: ports are given, or asked of the machine by `free_ports`.
"""

import csv
import io
import math
import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

SOUTH_BUILDINGS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14)
NORTH_BUILDINGS = (1, 2, 3, 4)
UNITS_PER_LINE = 32
MIN_ROOMS, MAX_ROOMS = 10, 10_000
ROOM_COLUMNS = (
    "room_id",
    "campus",
    "building",
    "floor",
    "name",
    "lighting_module",
    "lighting_channel",
    "ac_module",
    "ac_channel",
    "rated_current_a",
    "feeder",
)
_RATED_CURRENT_A = 32
_KW_PER_ROOM = 3


class UnableToMakeDemoSiteError(Exception):
    """The campus asked for can't be made; the message says what was expected."""


@dataclass(slots=True, kw_only=True)
class DemoSite:
    """A site file's parts that describe the place, and the rooms that are to use much."""

    site: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)
    modules: list[dict[str, Any]] = field(default_factory=list)
    feeders: list[dict[str, Any]] = field(default_factory=list)
    rooms: list[dict[str, Any]] = field(default_factory=list)
    load_factors: dict[str, float] = field(default_factory=dict)

    def rooms_csv(self) -> str:
        """Return the rooms file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ROOM_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rooms)
        return text.getvalue()

    def sections(self, *, rooms_file: str = "rooms.csv") -> dict[str, Any]:
        """Return the site file's sections `site`, `lines`, `modules`, `feeders` and `rooms_file`."""
        return {
            "site": self.site,
            "lines": self.lines,
            "modules": self.modules,
            "feeders": self.feeders,
            "rooms_file": rooms_file,
        }


def lines_needed(rooms: int) -> int:
    """Return how many Modbus lines, and so how many ports, a demo campus of so many rooms has."""
    return sum(math.ceil(count / UNITS_PER_LINE) for count in _split(rooms)[0])


def free_ports(count: int, *, host: str = "127.0.0.1") -> list[int]:
    """Ask the machine for ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in sockets]


def demo_site(
    rooms: int = 240,
    *,
    ports: Sequence[int],
    host: str = "127.0.0.1",
    seed: int = 1,
    heavy_share: float = 0.1,
    site_id: str = "south-north",
) -> DemoSite:
    """Describe a demo campus: three quarters of the rooms South, one quarter North.

    `ports` are those of its `lines_needed(rooms)` lines. A share of the rooms uses two or three times the usual
    so that they run out of energy before one's eyes. Raises UnableToMakeDemoSiteError.
    """
    if not MIN_ROOMS <= rooms <= MAX_ROOMS:
        raise UnableToMakeDemoSiteError(f"rooms: expected {MIN_ROOMS}–{MAX_ROOMS}, got {rooms}")
    if len(ports) < lines_needed(rooms):
        raise UnableToMakeDemoSiteError(f"ports: expected {lines_needed(rooms)}, got {len(ports)}")
    made = DemoSite(site={"id": site_id, "name": "Demo campus", "zone": "Asia/Shanghai"})
    south, north = _split(rooms)
    free = iter(ports)
    made.feeders.append({"id": "south", "limit_kw": _limit_kw(sum(south))})
    made.feeders.append({"id": "north", "limit_kw": _limit_kw(sum(north))})
    for number, count in zip(SOUTH_BUILDINGS, south, strict=True):
        if count:
            _south_building(made, number, count, free, host)
    for number, count in zip(NORTH_BUILDINGS, north, strict=True):
        for index in range(count):
            _add_room(made, "north", number, index, count)
    draw = random.Random(f"{seed}/demo")  # noqa: S311 - a simulation, not a secret
    for room_id in draw.sample([room["room_id"] for room in made.rooms], round(rooms * heavy_share)):
        made.load_factors[room_id] = round(draw.uniform(2.0, 3.0), 2)
    return made


def _limit_kw(rooms: int) -> int:
    return max(rooms * _KW_PER_ROOM, 1)


def _split(rooms: int) -> tuple[list[int], list[int]]:
    """Share rooms out over the buildings, as evenly as whole rooms go."""
    north_rooms = rooms // 4
    return _evenly(rooms - north_rooms, len(SOUTH_BUILDINGS)), _evenly(north_rooms, len(NORTH_BUILDINGS))


def _evenly(total: int, parts: int) -> list[int]:
    base, rest = divmod(total, parts)
    return [base + (1 if part < rest else 0) for part in range(parts)]


def _south_building(made: DemoSite, number: int, count: int, ports: Any, host: str) -> None:
    building = f"south-{number:02d}"
    made.feeders.append({"id": building, "parent": "south", "limit_kw": _limit_kw(count)})
    for index in range(count):
        line_index, unit = divmod(index, UNITS_PER_LINE)
        line_id = f"{building}-l{line_index + 1:02d}"
        if unit == 0:
            framer = "socket" if len(made.lines) % 2 == 0 else "rtu"
            line: dict[str, Any] = {
                "id": line_id,
                "transport": "tcp",
                "host": host,
                "port": next(ports),
                "framer": framer,
                "timeout_ms": 500,
            }
            if framer == "rtu":
                line["gap_ms"] = 5
            made.lines.append(line)
        module_id = _add_room(made, "south", number, index, count)
        made.modules[-1].update({"line": line_id, "unit": unit + 1})
        made.rooms[-1].update({"lighting_module": module_id, "ac_module": module_id, "feeder": building})


def _add_room(made: DemoSite, campus: str, number: int, index: int, count: int) -> str:
    """Add a room and its module; floors fill from below, at most 99 rooms each."""
    building = f"{campus}-{number:02d}"
    rooms_per_floor = max(math.ceil(count / 6), 1)
    floor, door = index // rooms_per_floor + 1, index % rooms_per_floor + 1
    name = f"{floor}{door:02d}"
    room_id = f"{building}-{name}"
    module_id = f"m-{room_id}"
    profile = "dormpower-dual" if campus == "south" else "dormpower-mqtt"
    made.modules.append({"id": module_id, "profile": profile})
    made.rooms.append(
        {
            "room_id": room_id,
            "campus": campus,
            "building": building,
            "floor": str(floor),
            "name": name,
            "lighting_module": module_id,
            "lighting_channel": 0,
            "ac_module": module_id,
            "ac_channel": 1,
            "rated_current_a": _RATED_CURRENT_A,
            "feeder": campus,
        }
    )
    return module_id
