"""A site's folder of its own: the files that describe it, its books and its users."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from config.settings import Settings, load
from dormpower.books import migration, users
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.clock import CampusClock, start_clock
from proofs.own_profiles import PROFILES_FOLDER, write_profile
from simulators.__main__ import CREDENTIALS_FILE
from simulators.access import GATEWAY_USER, make_credentials, save_credentials
from simulators.demo_site import free_ports

HOST = "127.0.0.1"
SITE_ID = "proof"
TCP_LINE, RTU_LINE = "line-tcp", "line-rtu"
ROLES = ("student", "finance", "maintenance", "admin")
OTHER_MAINTENANCE = "maintenance-2"
PRICE_MILLIFEN_PER_KWH = 56_530
NOON = datetime(2026, 5, 20, 4, 0, tzinfo=UTC)  # noon in Shanghai


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a site consists of and how fast it lives. Periods are real seconds, policies campus seconds."""

    tcp_rooms: int = 2
    rtu_rooms: int = 2
    mqtt_rooms: int = 2
    speed: float = 120.0
    campus_start: datetime = NOON
    poll_s: float = 0.5
    missed_polls: int = 6
    timeout_ms: int = 200
    low_wh: int = 2_000
    critical_wh: int = 1_000
    warning_lead_s: int = 120
    courtesy: tuple[str, ...] = ("03:00-04:00",)
    database: str = "sqlite:///books.db"
    readings: Mapping[str, Any] | None = None
    broker: str = "embedded"  # or mosquitto, or none
    own_profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name → like, and other values
    more_lines: tuple[Mapping[str, Any], ...] = ()
    more_modules: tuple[Mapping[str, Any], ...] = ()
    more_rooms: tuple[Mapping[str, Any], ...] = ()
    fast_poll_s: float | None = None
    wire_baud: int | None = None  # the timing of a serial bus for the simulated lines
    synced: bool = True  # whether the books know the rooms before any process runs
    policies: Mapping[str, Any] = field(default_factory=dict)  # sections beside prices and arrears


class SiteFolder:
    """The files, the books and the users of one site, in a folder of its own."""

    def __init__(self, plan: Plan, folder: Path | None = None) -> None:
        # A Unix socket's path holds about 100 bytes: not every folder for tests is short enough.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="dormpower-site-"))
        self.plan = plan
        self.ports = dict(zip(("tcp", "rtu", "mqtt", "api"), free_ports(4), strict=True))
        self.path = self.folder / "dormpower.yaml"
        self.credentials: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self._write()
        self.settings: Settings = load(self.path)
        self.clock: CampusClock = start_clock(self.folder, speed=plan.speed, campus_start=plan.campus_start)
        self.books: Books = open_books(self.settings.database, base=self.folder)
        self._fill()

    @property
    def circuits(self) -> list[str]:
        """All circuits by id."""
        return [circuit.circuit_id for room in self.settings.site.rooms for circuit in room.circuits]

    @property
    def url(self) -> str:
        """Where the API listens."""
        return f"http://{HOST}:{self.ports['api']}"

    def remove(self) -> None:
        """Close the books and remove the folder."""
        self.books.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart_clock(self) -> None:
        """Let campus time begin again at the plan's start: set-up took some of it."""
        self.clock = start_clock(self.folder, speed=self.plan.speed, campus_start=self.plan.campus_start)

    def _write(self) -> None:
        plan, folder = self.plan, self.folder
        for name, said in plan.own_profiles.items():
            write_profile(folder, name=name, **said)
        modules, rooms = self._modules_and_rooms()
        self.credentials = make_credentials([one["id"] for one in modules if "line" not in one])
        save_credentials(folder / CREDENTIALS_FILE, self.credentials)
        secret = folder / "mqtt.password"
        secret.touch(0o600)
        secret.write_text(self.credentials[GATEWAY_USER] + "\n", encoding="utf-8")
        lines: list[Mapping[str, Any]] = [
            {
                "id": line_id,
                "transport": "tcp",
                "host": HOST,
                "port": self.ports[name],
                "framer": framer,
                "timeout_ms": plan.timeout_ms,
            }
            for line_id, name, framer, count in (
                (TCP_LINE, "tcp", "socket", plan.tcp_rooms),
                (RTU_LINE, "rtu", "rtu", plan.rtu_rooms),
            )
            if count
        ]
        document = {
            "site": {"id": SITE_ID, "name": "Proof campus", "zone": "Asia/Shanghai"},
            "database": plan.database,
            "readings": dict(plan.readings or {"store": "embedded", "path": "readings.db", "keep_days": 90}),
            "api": {"host": HOST, "port": self.ports["api"]},
            "gateway": {
                "id": "g1",
                "poll_s": plan.poll_s,
                "fast_poll_s": plan.fast_poll_s or plan.poll_s,
                "missed_polls": plan.missed_polls,
            },
            "lines": [*lines, *plan.more_lines],
            "modules": modules,
            "rooms": rooms,
            "policies": {
                "prices": [
                    {
                        "from": plan.campus_start.date().replace(month=1, day=1),
                        "kind": "all",
                        "price_millifen_per_kwh": PRICE_MILLIFEN_PER_KWH,
                    }
                ],
                "arrears": {
                    "low_wh": plan.low_wh,
                    "critical_wh": plan.critical_wh,
                    "overdraft_wh": 0,
                    "warning_lead_s": plan.warning_lead_s,
                    "courtesy": list(plan.courtesy),
                    "channels": ["wechat"],
                    "mode": "enforce",
                },
                **plan.policies,
            },
        }
        if plan.own_profiles:
            document["profiles_folder"] = PROFILES_FOLDER
        if plan.mqtt_rooms:
            document["mqtt"] = {
                "url": f"mqtt://{HOST}:{self.ports['mqtt']}",
                "username": GATEWAY_USER,
                "password_file": "mqtt.password",
            }
        self.path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def _modules_and_rooms(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        plan = self.plan
        modules: list[dict[str, Any]] = []
        rooms: list[dict[str, Any]] = []
        for campus, count, line_id in (
            ("tcp", plan.tcp_rooms, TCP_LINE),
            ("rtu", plan.rtu_rooms, RTU_LINE),
            ("mqtt", plan.mqtt_rooms, None),
        ):
            for number in range(1, count + 1):
                room_id = f"{campus}-01-{100 + number}"
                module: dict[str, Any] = {
                    "id": f"m-{room_id}",
                    "profile": "dormpower-dual" if line_id else "dormpower-mqtt",
                }
                if line_id:
                    module |= {"line": line_id, "unit": number}
                modules.append(module)
                rooms.append(describe_room(room_id, module_id=module["id"]))
        modules += [dict(one) for one in plan.more_modules]
        rooms += [dict(one) for one in plan.more_rooms]
        return modules, rooms

    def _fill(self) -> None:
        migration.upgrade(self.books)
        if self.plan.synced:
            now = self.clock.now()
            today = now.astimezone(self.settings.zone).date()
            sync_site(books=self.books, site=self.settings.site, now=now, today=today)
        real_now = self.clock.real_now()
        with self.books.write() as connection:
            for name in (*ROLES, OTHER_MAINTENANCE):
                user_id = users.add_user(
                    connection,
                    username=name,
                    role=users.Role(name.removesuffix("-2")),
                    password_hash=None,
                    now=real_now,
                )
                issued = users.issue_token(connection, user_id=user_id, days=1, now=real_now)
                self.tokens[name] = issued.secret


def describe_room(
    room_id: str, *, module_id: str, ac_module_id: str | None = None, ac: bool = True
) -> dict[str, Any]:
    """Return a room of the site file whose circuits hang on channels 0 and 1 of a module."""
    campus, building, door = room_id.rsplit("-", 2)
    room: dict[str, Any] = {
        "room_id": room_id,
        "campus": campus,
        "building": f"{campus}-{building}",
        "floor": door[0],
        "name": door,
        "lighting_module": module_id,
        "lighting_channel": 0,
        "rated_current_a": 32,
    }
    if ac:
        room |= {"ac_module": ac_module_id or module_id, "ac_channel": 1}
    return room
