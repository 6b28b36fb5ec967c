"""`python -m simulators.demo_files --data DIR …`: the files of a demo campus, made once, kept ever after.

Writes `dormpower.yaml`, `rooms.csv`, the broker's credentials and the rooms that use much; `demo.json`
remembers what is the demo's own. On a folder that has them already it only replaces ports that are taken
meanwhile.
"""

import argparse
import copy
import json
import os
import socket
import sys
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from simulators.__main__ import CREDENTIALS_FILE, LOADS_FILE
from simulators.access import GATEWAY_USER, make_credentials, save_credentials
from simulators.demo_site import UnableToMakeDemoSiteError, demo_site, free_ports, lines_needed

SITE_FILE = "dormpower.yaml"
DEMO_FILE = "demo.json"
INFLUX_TOKEN_FILE = "influx.token"  # noqa: S105 - a file name
HOST = "127.0.0.1"

# A simulated module answers at once: the demo polls faster than a real bus could, so that a page moves.
_SHORTEST_POLL_S = 2.0
_ROOMS_POLLED_A_SECOND = 400


def main(arguments: list[str] | None = None) -> int:
    """Make or refresh the files; exit code 1 and a sentence where that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m simulators.demo_files", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rooms", type=int, default=None)
    parser.add_argument("--port", type=int, default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--influxdb", default=None)
    wanted = parser.parse_args(arguments)
    try:
        if wanted.port is not None and not _is_free(wanted.port):
            raise UnableToMakeDemoSiteError(
                f"--port: something listens on {HOST}:{wanted.port} already; name another, or none at all"
            )
        wanted.data.mkdir(parents=True, exist_ok=True)
        if (wanted.data / SITE_FILE).exists():
            _refresh(wanted)
        else:
            _make(wanted)
    except (UnableToMakeDemoSiteError, OSError, ValueError) as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    return 0


def _make(wanted: argparse.Namespace) -> None:
    rooms = 240 if wanted.rooms is None else wanted.rooms
    seed = 1 if wanted.seed is None else wanted.seed
    mqtt_port, api_port, *line_ports = free_ports(2 + lines_needed(rooms), host=HOST)
    made = demo_site(rooms, ports=line_ports, host=HOST, seed=seed)
    poll_s = max(_SHORTEST_POLL_S, rooms / _ROOMS_POLLED_A_SECOND)
    document: dict[str, Any] = {
        "site": made.site,
        "database": "sqlite:///books.db",
        "readings": _readings(wanted.influxdb, wanted.data),
        "mqtt": {
            "url": f"mqtt://{HOST}:{mqtt_port}",
            "username": GATEWAY_USER,
            "password_file": "mqtt.password",
        },
        "api": {"host": HOST, "port": wanted.port or api_port},
        "gateway": {"id": "g1", "poll_s": poll_s, "fast_poll_s": max(1.0, poll_s / 2), "missed_polls": 5},
        "lines": made.lines,
        "modules": made.modules,
        "rooms_file": "rooms.csv",
        "feeders": made.feeders,
        "policies": {
            "prices": [{"from": date(2020, 1, 1), "kind": "all", "price_millifen_per_kwh": 56530}],
            "arrears": {
                "low_wh": 20000,
                "critical_wh": 5000,
                "overdraft_wh": 0,
                "warning_lead_s": 43200,
                "courtesy": ["23:00-07:00"],
                "mode": "enforce",
            },
        },
    }
    credentials = make_credentials([module["id"] for module in made.modules if "line" not in module])
    save_credentials(wanted.data / CREDENTIALS_FILE, credentials)
    _write_secret(wanted.data / "mqtt.password", credentials[GATEWAY_USER])
    (wanted.data / "rooms.csv").write_text(made.rooms_csv(), encoding="utf-8")
    (wanted.data / LOADS_FILE).write_text(json.dumps(made.load_factors), encoding="utf-8")
    record = {"rooms": rooms, "seed": seed, "broker_port": mqtt_port}
    (wanted.data / DEMO_FILE).write_text(json.dumps(record), encoding="utf-8")
    _write_site(wanted.data / SITE_FILE, document)


def _readings(url: str | None, folder: Path) -> dict[str, Any]:
    if url is None:
        return {"store": "embedded", "path": "readings.db", "keep_days": 90}
    readings: dict[str, Any] = {
        "store": "influxdb",
        "url": url,
        "org": os.environ.get("INFLUXDB_ORG", "campus"),
        "bucket": os.environ.get("INFLUXDB_BUCKET", "dorm"),
    }
    if os.environ.get("INFLUXDB_TOKEN"):
        _write_secret(folder / INFLUX_TOKEN_FILE, os.environ["INFLUXDB_TOKEN"])
        readings["token_file"] = INFLUX_TOKEN_FILE
    return readings


def _refresh(wanted: argparse.Namespace) -> None:
    """Keep what is there, refusing what was asked for differently; only ports that others took are replaced."""
    path = wanted.data / SITE_FILE
    try:
        record = json.loads((wanted.data / DEMO_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as fault:
        raise UnableToMakeDemoSiteError(
            f"{path}: this site was not made by the demo; name another folder with --data"
        ) from fault
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    before = copy.deepcopy(document)
    for name, present, asked in (
        ("rooms", record["rooms"], wanted.rooms),
        ("seed", record["seed"], wanted.seed),
        # The readings that are there would not move along.
        ("readings in", document["readings"].get("url", "an embedded store"), wanted.influxdb),
    ):
        if asked is not None and asked != present:
            raise UnableToMakeDemoSiteError(
                f"{path}: this demo has {name} {present}, asked for {asked}; name another folder with --data"
            )
    _replace_taken_ports(document, record, wanted)
    if document != before:
        _write_site(path, document)


def _replace_taken_ports(document: dict[str, Any], record: dict[str, Any], wanted: argparse.Namespace) -> None:
    for line in document["lines"]:
        if line.get("host") == HOST and not _is_free(line["port"]):
            line["port"] = free_ports(1, host=HOST)[0]
    if document["mqtt"]["url"] == f"mqtt://{HOST}:{record['broker_port']}" and not _is_free(
        record["broker_port"]
    ):
        record["broker_port"] = free_ports(1, host=HOST)[0]
        document["mqtt"]["url"] = f"mqtt://{HOST}:{record['broker_port']}"
        (wanted.data / DEMO_FILE).write_text(json.dumps(record), encoding="utf-8")
    if wanted.port is not None:
        document["api"]["port"] = wanted.port
    elif not _is_free(document["api"]["port"]):
        document["api"]["port"] = free_ports(1, host=HOST)[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _write_site(path: Path, document: dict[str, Any]) -> None:
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    temporary = path.with_suffix(".yaml.new")
    temporary.write_text(f"# A demo campus, made by `dormpower demo`.\n{text}", encoding="utf-8")
    temporary.replace(path)


def _write_secret(path: Path, secret: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")


if __name__ == "__main__":
    sys.exit(main())
