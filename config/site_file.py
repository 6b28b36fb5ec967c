"""The site file's shape: one pydantic model a section; each field's description says what is expected.

The models check one value at a time. What takes two values to see (a unit twice on a line, a module that is not
there) is in `config/cross_checks.py`; the sections of control's rules are in `config/policy_sections.py`.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Strict, Tag

from config.policy_sections import (
    ArrearsSection,
    MinimumOffSection,
    OverloadSection,
    ProhibitedSection,
    TripsSection,
)
from config.schedule_sections import CalendarSection, ClosingsSection, CurfewSection, NightModeSection
from config.shedding_section import SheddingSection
from config.site_values import Exact, FileName, Int, Name, Seconds, Section, Slug, file_name

MAX_CHANNEL = 15


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, LookupError) as fault:
        raise ValueError("unknown zone") from fault
    return value


def _url(*schemes: str) -> Any:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.hostname or parts.password or parts.username:
            raise ValueError("not such a URL")
        _ = parts.port  # raises ValueError beyond 65535
        return value

    return AfterValidator(check)


def _database(value: str) -> str:
    file_name(value)
    parts = urlsplit(value)
    if parts.password:
        raise ValueError("a password inline")
    if parts.scheme == "sqlite" and parts.path.strip("/") and not parts.netloc:
        return value
    if parts.scheme == "postgresql+psycopg":
        return value
    raise ValueError("not such a URL")


def _shape(key: str, **shapes: type[Section]) -> Discriminator:
    """Choose the shape that `key` names; where it names none, the one whose own keys a mapping has most of.

    What is wrong with the other keys is then told along with `key` itself. Where nothing tells, only `key` is.
    """
    common = set.intersection(*(set(shape.model_fields) for shape in shapes.values()))

    def choose(value: Any) -> str | None:
        if isinstance(value, BaseModel):  # a default
            return str(getattr(value, key))
        if not isinstance(value, Mapping):
            return None
        if value.get(key) in tuple(shapes):
            return str(value[key])
        own = {name: len((shape.model_fields.keys() - common) & value.keys()) for name, shape in shapes.items()}
        most = max(own, key=lambda name: own[name])
        return most if own[most] else None

    return Discriminator(choose)


Port = Annotated[int, Strict(), Field(ge=1, le=65535, description="1–65535")]


class SiteSection(Section):
    """Who this site is."""

    id: Slug
    name: Name
    zone: Annotated[
        str, AfterValidator(_zone), Field(description="an IANA time zone such as Asia/Shanghai")
    ] = "Asia/Shanghai"


class EmbeddedReadings(Section):
    """Readings in a file beside the books."""

    store: Literal["embedded"] = Field(description="embedded or influxdb")
    path: FileName = Field(default="readings.db", description="a file name")
    keep_days: Int = Field(default=90, ge=1, le=36500, description="1–36500 days")


class InfluxReadings(Section):
    """Readings in an InfluxDB."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "keep_days": "the retention period of the bucket says how long readings stay; set it in InfluxDB"
    }

    store: Literal["influxdb"] = Field(description="embedded or influxdb")
    url: Annotated[str, _url("http", "https")] = Field(
        description="http://HOST:PORT or https://…, no credentials"
    )
    org: str = Field(default="", description="the organisation's name")
    bucket: str = Field(min_length=1, description="the bucket's name")
    token_file: FileName | None = Field(default=None, description="a file that holds the token")
    token_env: str | None = Field(default=None, description="the name of an environment variable")
    outbox: FileName = Field(default="readings-outbox.db", description="a file name")


_Readings = Annotated[
    Annotated[EmbeddedReadings, Tag("embedded")] | Annotated[InfluxReadings, Tag("influxdb")],
    _shape("store", embedded=EmbeddedReadings, influxdb=InfluxReadings),
]


class MqttSection(Section):
    """The broker that MQTT modules and the gateway share."""

    url: Annotated[str, _url("mqtt", "mqtts")] = Field(
        description="mqtt://HOST:PORT or mqtts://HOST:PORT, no credentials"
    )
    username: str | None = Field(default=None, min_length=1, description="the gateway's user name")
    password_file: FileName | None = Field(default=None, description="a file that holds the password")
    password_env: str | None = Field(default=None, description="the name of an environment variable")
    ca_file: FileName | None = Field(default=None, description="a file of CA certificates (PEM)")


class ApiSection(Section):
    """Where the API listens."""

    host: str = Field(default="127.0.0.1", min_length=1, description="an address to listen on")
    port: Port = 8000
    tls_certificate_file: FileName | None = Field(default=None, description="a PEM file")
    tls_key_file: FileName | None = Field(default=None, description="a PEM file")
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="addresses of proxies that end TLS in front of the API"
    )


class GatewaySection(Section):
    """How the gateway polls. A reading is stale after `missed_polls` polls without one."""

    id: Slug = "g1"
    poll_s: Seconds = Field(default=30.0, description="seconds above 0, at most 86400")
    fast_poll_s: Seconds = Field(default=5.0, description="seconds above 0, at most 86400")
    missed_polls: Int = Field(default=3, ge=1, le=1000, description="1–1000")


class TcpLine(Section):
    """A Modbus TCP host or an RTU-over-TCP converter."""

    id: Slug
    transport: Literal["tcp"] = Field(description="tcp or serial")
    host: str = Field(min_length=1, description="a host name or address")
    port: Port
    framer: Literal["socket", "rtu"] = Field(default="socket", description="socket or rtu")
    timeout_ms: Int = Field(default=500, ge=10, le=60000, description="10–60000 milliseconds")
    gap_ms: Int = Field(default=0, ge=0, le=10000, description="0–10000 milliseconds")


class SerialLine(Section):
    """A serial port."""

    id: Slug
    transport: Literal["serial"] = Field(description="tcp or serial")
    device: FileName = Field(description="a device such as /dev/ttyUSB0")
    baud: Int = Field(default=9600, ge=300, le=1000000, description="300–1000000")
    parity: Literal["N", "E", "O"] = Field(default="N", description="N, E or O")
    stop_bits: Int = Field(default=1, ge=1, le=2, description="1 or 2")
    timeout_ms: Int = Field(default=500, ge=10, le=60000, description="10–60000 milliseconds")
    gap_ms: Int = Field(default=0, ge=0, le=10000, description="0–10000 milliseconds")


_Line = Annotated[
    Annotated[TcpLine, Tag("tcp")] | Annotated[SerialLine, Tag("serial")],
    _shape("transport", tcp=TcpLine, serial=SerialLine),
]


class ModuleRow(Section):
    """A module in the field."""

    id: Slug
    profile: str = Field(min_length=1, description="the name of a profile")
    line: Slug | None = None
    unit: Int | None = Field(default=None, ge=1, le=247, description="1–247")


class FeederMeter(Section):
    """The channel that meters a feeder."""

    module: Slug
    channel: Int = Field(default=0, ge=0, le=MAX_CHANNEL, description=f"0–{MAX_CHANNEL}")


class FeederRow(Section):
    """A supply line with a limit."""

    id: Slug
    parent: Slug | None = None
    limit_kw: Exact = Field(gt=0, le=100000, decimal_places=3, description="kW above 0, to the watt")
    meter: FeederMeter | None = Field(default=None, description="{module: ID, channel: N}")


class PriceRow(Section):
    """A price from a campus day on."""

    from_on: dt.date = Field(alias="from", strict=True, description="a date such as 2026-01-01")
    kind: Literal["all", "lighting", "ac"] = Field(default="all", description="all, lighting or ac")
    price_millifen_per_kwh: Int = Field(
        ge=1, le=10_000_000, description="whole millifen per kWh, 1–10000000 (0.5653 yuan is 56530)"
    )


class LotsSection(Section):
    """Which energy is used first."""

    order: Literal["fifo", "paid_first", "granted_first"] = Field(
        default="fifo", description="fifo, paid_first or granted_first"
    )


class PoliciesSection(Section):
    """The site's rules."""

    prices: tuple[PriceRow, ...] = Field(default=(), description="a list of prices")
    arrears: ArrearsSection | None = Field(default=None, description="a mapping")
    lots: LotsSection = Field(default=LotsSection(), description="{order: fifo}")
    overload: OverloadSection = Field(default=OverloadSection(), description="a mapping")
    prohibited: ProhibitedSection = Field(default=ProhibitedSection(), description="a mapping")
    shedding: SheddingSection = Field(default=SheddingSection(), description="{mode: shadow, …}")
    curfew: CurfewSection = Field(default=CurfewSection(), description="{mode: …, rules: […]}")
    night_mode: NightModeSection = Field(default=NightModeSection(), description="{mode: …, rules: […]}")
    min_off: MinimumOffSection = Field(default=MinimumOffSection(), description="{ac_s: …, lighting_s: …}")
    trips: TripsSection = Field(default=TripsSection(), description="{restores_a_day: …}")
    closings: ClosingsSection = Field(default=ClosingsSection(), description="{at_once: …, every_s: …}")


class BuildingOpenedSection(Section):
    """When relays of a building found open are one alarm."""

    circuits: Int = Field(default=10, ge=2, le=100_000, description="2–100000 circuits")
    share: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False, description="a share above 0, at most 1")
    polls: Int = Field(default=2, ge=1, le=20, description="1–20 poll cycles")


class AlarmsSection(Section):
    """What is one alarm."""

    building_opened: BuildingOpenedSection = Field(
        default=BuildingOpenedSection(), description="{circuits: …, share: …, polls: …}"
    )


class RoomRow(Section):
    """One room, as a line of rooms.csv or an entry of `rooms`."""

    room_id: Slug
    campus: Name
    building: Name
    floor: Name
    name: Name
    lighting_module: Slug | None = None
    lighting_channel: Int | None = Field(default=None, ge=0, le=MAX_CHANNEL, description=f"0–{MAX_CHANNEL}")
    ac_module: Slug | None = None
    ac_channel: Int | None = Field(default=None, ge=0, le=MAX_CHANNEL, description=f"0–{MAX_CHANNEL}")
    rated_current_a: Int = Field(ge=1, le=1000, description="whole amperes, 1–1000")
    feeder: Slug | None = None


class SiteFile(Section):
    """The whole document."""

    site: SiteSection = Field(description="{id: …, name: …, zone: …}")
    database: Annotated[str, AfterValidator(_database)] = Field(
        default="sqlite:///books.db",
        description="sqlite:///FILE or postgresql+psycopg://user@host/name (the password from PGPASSWORD, "
        "~/.pgpass or ?passfile=FILE)",
    )
    readings: _Readings = Field(
        default=EmbeddedReadings(store="embedded"), description="{store: embedded, …} or {store: influxdb, …}"
    )
    mqtt: MqttSection | None = Field(default=None, description="{url: mqtt://HOST:PORT, …}")
    api: ApiSection = Field(default=ApiSection(), description="{host: …, port: …}")
    gateway: GatewaySection = Field(default=GatewaySection(), description="{id: …, poll_s: …}")
    lines: tuple[_Line, ...] = Field(default=(), description="a list of lines")
    modules: tuple[ModuleRow, ...] = Field(default=(), description="a list of modules")
    rooms_file: FileName | None = Field(default=None, description="a CSV or XLSX file")
    rooms: tuple[RoomRow, ...] | None = Field(default=None, description="a list of rooms")
    feeders: tuple[FeederRow, ...] = Field(default=(), description="a list of feeders")
    profiles_folder: FileName | None = Field(default=None, description="a folder of the site's own profiles")
    calendar: CalendarSection = Field(
        default=CalendarSection(), description="{holidays: …, exceptions: […], exam_weeks: […]}"
    )
    alarms: AlarmsSection = Field(default=AlarmsSection(), description="{building_opened: {circuits: …, …}}")
    policies: PoliciesSection = Field(default=PoliciesSection(), description="{prices: …, arrears: …}")
    languages: tuple[Literal["zh", "en"], ...] = Field(
        default=("zh", "en"), min_length=1, description="zh, en; the first is the default"
    )
