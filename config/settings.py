"""Loading a site: one call from a file to frozen, checked settings, or every fault at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from config.faults import Fault, Findings, UnableToLoadSiteError, show_path
from config.partial_site import ReadablePart, readable_part
from config.policy_settings import PolicySettings, check_rules, policies_of
from config.profiles import Profile, UnableToLoadProfilesError, load_profiles
from config.rooms_file import SourcedRoom, read_rooms
from config.site_file import (
    InfluxReadings,
    MqttSection,
    SiteFile,
)
from config.site_objects import to_feeders, to_line, to_modules, to_room
from config.site_parsing import parse_site_file
from config.yaml_source import read_yaml
from dormpower.domain.openings import OpeningsPolicy
from dormpower.domain.site import Site

CONFIG_VARIABLE = "DORMPOWER_CONFIG"
DEFAULT_FILE = "dormpower.yaml"

__all__ = ["CONFIG_VARIABLE", "Settings", "UnableToLoadSiteError", "load", "resolve_path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedReadingsSettings:
    """The embedded readings store: a file and how long readings stay in it."""

    path: Path
    keep_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluxReadingsSettings:
    """An InfluxDB, and the file of the durable outbox in front of it."""

    url: str
    org: str
    bucket: str
    token: SecretStr | None
    outbox_path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a site's data is: the books' URL, the file of the readings or of their outbox, the rooms'."""

    database: str
    readings: Path
    rooms: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """The broker; `password` shows itself to nobody by accident (`get_secret_value()`)."""

    url: str
    host: str
    port: int
    tls: bool
    username: str | None
    password: SecretStr | None
    ca_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Where the API listens, and who may speak for others (`X-Forwarded-For`)."""

    host: str
    port: int
    tls_certificate_file: Path | None
    tls_key_file: Path | None
    trusted_proxies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """How the gateway polls, in real seconds; stale after `missed_polls` polls without a reading."""

    gateway_id: str
    poll_s: float
    fast_poll_s: float
    missed_polls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A site, checked. `folder` (of the site file) is the data folder: relative paths start there."""

    path: Path
    folder: Path
    site: Site
    profiles: Mapping[str, Profile]
    database: str
    readings: EmbeddedReadingsSettings | InfluxReadingsSettings
    mqtt: MqttSettings | None
    api: ApiSettings
    gateway: GatewaySettings
    openings: OpeningsPolicy  # in real seconds
    policies: PolicySettings
    languages: tuple[str, ...]
    rooms_path: Path | None
    secret_files: tuple[Path, ...]
    warnings: tuple[Fault, ...]
    document: Mapping[str, Any]  # the site file as it was read: what a change of policies starts from
    sourced_rooms: tuple[SourcedRoom, ...]

    @property
    def zone(self) -> ZoneInfo:
        """The zone of campus days, prices and hours."""
        return self.site.zone

    @property
    def stale_after_s(self) -> float:
        """Real seconds without an accepted reading after which a circuit is `offline`."""
        return self.gateway.poll_s * self.gateway.missed_polls


def resolve_path(option: Path | str | None = None) -> Path:
    """Return the site file to use: the option, else DORMPOWER_CONFIG, else ./dormpower.yaml."""
    return Path(option or os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)


def load(path: Path | str | None = None) -> Settings:
    """Load and check a site. Raises UnableToLoadSiteError with every fault of all its files."""
    site_path = resolve_path(path)
    return _load(site_path, rooms_from=None)


def places_of(path: Path) -> Places:
    """Return where a site file says its data is; its rooms, profiles and secrets need not be there.

    Raises UnableToLoadSiteError.
    """
    findings = Findings(show_path(path))
    document = read_yaml(path, findings)
    file = parse_site_file(document, findings) if document is not None else None
    if file is None:
        raise UnableToLoadSiteError(findings.faults)
    folder, readings = path.resolve().parent, file.readings
    return Places(
        database=file.database,
        readings=folder / (readings.outbox if isinstance(readings, InfluxReadings) else readings.path),
        rooms=folder / file.rooms_file if file.rooms_file else None,
    )


def load_with_rooms(path: Path | str | None, rooms_from: Path) -> tuple[Settings, list[SourcedRoom]]:
    """Load a site as it would be with the rooms of another file; nothing is written."""
    findings = Findings(show_path(resolve_path(path)))
    rooms = read_rooms(rooms_from, findings)
    findings.raise_if_any()
    return _load(resolve_path(path), rooms_from=rooms_from), rooms


def rooms_of(settings: Settings) -> list[SourcedRoom]:
    """Return the rooms as the file describes them, for export."""
    findings = Findings(show_path(settings.path))
    document = read_yaml(settings.path, findings) or {}
    file = parse_site_file(document, findings)
    rooms = _rooms(file, settings.folder, findings, rooms_from=None) if file else []
    findings.raise_if_any()
    return rooms


def _load(site_path: Path, *, rooms_from: Path | None) -> Settings:
    findings = Findings(show_path(site_path))
    folder = site_path.resolve().parent
    document = read_yaml(site_path, findings)
    if document is None:
        raise UnableToLoadSiteError(findings.faults)
    file = parse_site_file(document, findings)
    part = ReadablePart(file) if file is not None else readable_part(document)
    if part is None:
        _check_rooms_file_alone(document, folder, findings)
        raise UnableToLoadSiteError(findings.faults)
    found = Findings(findings.file)
    rooms = _rooms(part.file, folder, found, rooms_from=rooms_from)
    profiles = _profiles(part.file, folder, found)
    peers = _peers(part.file, folder, found)
    check_rules(part.file, rooms, profiles, found)
    findings.faults += [fault for fault in found.faults if fault.file != found.file or part.knows(fault)]
    findings.warnings += found.warnings
    findings.raise_if_any()
    return _settings(
        site_path,
        folder,
        part.file,
        rooms,
        profiles=profiles,
        peers=peers,
        document=document,
        findings=findings,
    )


@dataclass(frozen=True, slots=True)
class _Peers:
    """What the processes talk to, with the secrets and certificates for it."""

    readings: EmbeddedReadingsSettings | InfluxReadingsSettings
    mqtt: MqttSettings | None
    api: ApiSettings


def _peers(file: SiteFile, folder: Path, findings: Findings) -> _Peers:
    return _Peers(
        readings=_readings(file, folder, findings),
        mqtt=_mqtt(file.mqtt, folder, findings) if file.mqtt else None,
        api=_api(file, folder, findings),
    )


def _profiles(file: SiteFile, folder: Path, findings: Findings) -> Mapping[str, Profile]:
    try:
        return load_profiles(folder / file.profiles_folder if file.profiles_folder else None)
    except UnableToLoadProfilesError as refusal:
        findings.faults.extend(refusal.faults)
        return {}


def _check_rooms_file_alone(document: Mapping[str, Any], folder: Path, findings: Findings) -> None:
    """Tell the faults of rooms.csv together with those of a site file that can't be used yet."""
    name = document.get("rooms_file")
    if isinstance(name, str) and name and "\0" not in name:  # a fault of its own, which is told already
        read_rooms(folder / name, findings)


def _rooms(file: SiteFile, folder: Path, findings: Findings, *, rooms_from: Path | None) -> list[SourcedRoom]:
    if rooms_from is not None:
        return read_rooms(rooms_from, findings)
    if file.rooms is not None and file.rooms_file is not None:
        findings.refuse("rooms", "expected rooms or rooms_file, got both")
    if file.rooms is not None:
        return [SourcedRoom(row, findings.file, f"rooms[{index}]") for index, row in enumerate(file.rooms)]
    if file.rooms_file is not None:
        return read_rooms(folder / file.rooms_file, findings)
    findings.refuse("rooms_file", "expected rooms_file: rooms.csv or rooms: […], got neither")
    return []


def _settings(
    path: Path,
    folder: Path,
    file: SiteFile,
    rooms: list[SourcedRoom],
    *,
    profiles: Mapping[str, Profile],
    peers: _Peers,
    document: Mapping[str, Any],
    findings: Findings,
) -> Settings:
    return Settings(
        path=path.resolve(),
        folder=folder,
        site=Site(
            site_id=file.site.id,
            name=file.site.name,
            zone=ZoneInfo(file.site.zone),
            rooms=tuple(to_room(room.row) for room in rooms),
            modules=to_modules(file),
            lines=tuple(to_line(line) for line in file.lines),
            feeders=to_feeders(file),
        ),
        profiles=profiles,
        database=file.database,
        readings=peers.readings,
        mqtt=peers.mqtt,
        api=peers.api,
        gateway=GatewaySettings(
            gateway_id=file.gateway.id,
            poll_s=file.gateway.poll_s,
            fast_poll_s=file.gateway.fast_poll_s,
            missed_polls=file.gateway.missed_polls,
        ),
        openings=_openings(file),
        policies=policies_of(file),
        languages=tuple(dict.fromkeys(file.languages)),
        rooms_path=folder / file.rooms_file if file.rooms_file else None,
        secret_files=tuple(folder / name for name in _secret_files(file)),
        warnings=tuple(findings.warnings),
        document=document,
        sourced_rooms=tuple(rooms),
    )


def _secret_files(file: SiteFile) -> list[str]:
    names = [file.mqtt.password_file if file.mqtt else None, file.api.tls_key_file]
    if isinstance(file.readings, InfluxReadings):
        names.append(file.readings.token_file)
    return [name for name in names if name is not None]


def _readings(
    file: SiteFile, folder: Path, findings: Findings
) -> EmbeddedReadingsSettings | InfluxReadingsSettings:
    section = file.readings
    if isinstance(section, InfluxReadings):
        return InfluxReadingsSettings(
            url=section.url.rstrip("/"),
            org=section.org,
            bucket=section.bucket,
            token=_secret(
                "readings.token", section.token_file, section.token_env, folder=folder, findings=findings
            ),
            outbox_path=folder / section.outbox,
        )
    return EmbeddedReadingsSettings(path=folder / section.path, keep_days=section.keep_days)


def _mqtt(section: MqttSection, folder: Path, findings: Findings) -> MqttSettings:
    parts = urlsplit(section.url)
    tls = parts.scheme == "mqtts"
    password = _secret(
        "mqtt.password", section.password_file, section.password_env, folder=folder, findings=findings
    )
    if section.username is not None and password is None and not _named(section):
        findings.refuse("mqtt.password_file", "expected a file or password_env for the username, got neither")
    return MqttSettings(
        url=section.url,
        host=parts.hostname or "",
        port=parts.port or (8883 if tls else 1883),
        tls=tls,
        username=section.username,
        password=password,
        ca_file=_file("mqtt.ca_file", section.ca_file, folder=folder, findings=findings),
    )


def _named(section: MqttSection) -> bool:
    return section.password_file is not None or section.password_env is not None


def _api(file: SiteFile, folder: Path, findings: Findings) -> ApiSettings:
    section = file.api
    if (section.tls_certificate_file is None) != (section.tls_key_file is None):
        findings.refuse("api", "expected both tls_certificate_file and tls_key_file, got one of them")
    return ApiSettings(
        host=section.host,
        port=section.port,
        tls_certificate_file=_file(
            "api.tls_certificate_file", section.tls_certificate_file, folder=folder, findings=findings
        ),
        tls_key_file=_file("api.tls_key_file", section.tls_key_file, folder=folder, findings=findings),
        trusted_proxies=section.trusted_proxies,
    )


def _file(key: str, name: str | None, *, folder: Path, findings: Findings) -> Path | None:
    if name is None:
        return None
    path = folder / name
    if not path.is_file():
        findings.refuse(key, f"expected a file, got none at {show_path(path)}")
    return path


def _secret(
    key: str, file_name: str | None, variable: str | None, *, folder: Path, findings: Findings
) -> SecretStr | None:
    """Read a secret from a file beside the site file or from the environment; one of them."""
    if file_name is not None and variable is not None:
        findings.refuse(f"{key}_env", f"expected {key}_file or {key}_env, got both")
        return None
    if variable is not None:
        value = os.environ.get(variable, "")
        if not value:
            findings.refuse(f"{key}_env", f"expected an environment variable {variable}, got none")
    elif file_name is not None:
        value = _first_line(f"{key}_file", folder / file_name, findings)
    else:
        return None
    return SecretStr(value) if value else None


def _first_line(key: str, path: Path, findings: Findings) -> str:
    try:
        value = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        findings.refuse(key, f"expected a readable text file, got none at {show_path(path)}")
        return ""
    if not value:
        findings.refuse(key, f"expected a secret in the file, got an empty one at {show_path(path)}")
    return value


def _openings(file: SiteFile) -> OpeningsPolicy:
    section, poll_s = file.alarms.building_opened, file.gateway.poll_s
    return OpeningsPolicy(
        circuits=section.circuits, share=section.share, window_s=section.polls * poll_s, poll_s=poll_s
    )
