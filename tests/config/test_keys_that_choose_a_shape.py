"""`transport` and `store` choose which keys a mapping has; its other faults are told without them too."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from config.faults import UnableToLoadSiteError
from config.settings import load

SITE = {"site": {"id": "t", "name": "Test"}, "rooms": []}
TRANSPORT = "lines[0].transport: expected tcp or serial, got"
STORE = "readings.store: expected embedded or influxdb, got"
HOST = "lines[0].host: expected a host name or address, got nothing"
FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no transport and a bad port": (
        {"lines": [{"id": "a", "host": "h", "port": 70000}]},
        [f"{TRANSPORT} nothing", "lines[0].port: expected 1–65535, got 70000"],
    ),
    "an unknown transport and faults of a TCP line": (
        {"lines": [{"id": "A 1", "transport": "tpc", "port": 0, "prot": 1}]},
        [
            "lines[0].id: expected a slug of a–z, 0–9, - and _ (at most 64), got 'A 1'",
            f"{TRANSPORT} 'tpc'",
            HOST,
            "lines[0].port: expected 1–65535, got 0",
            "lines[0].prot: unknown key, did you mean port?",
        ],
    ),
    "no transport and faults of a serial line": (
        {"lines": [{"id": "a", "device": "/dev/ttyUSB0", "baud": 1, "parity": "X"}]},
        [
            f"{TRANSPORT} nothing",
            "lines[0].baud: expected 300–1000000, got 1",
            "lines[0].parity: expected N, E or O, got 'X'",
        ],
    ),
    "no transport and a word that only serial lines know": (
        {"lines": [{"id": "a", "device": "/dev/ttyUSB0", "stop_bit": 2}]},
        [f"{TRANSPORT} nothing", "lines[0].stop_bit: unknown key, did you mean stop_bits?"],
    ),
    "nothing that tells which sort of line it is": (
        {"lines": [{"id": "a", "timeout_ms": 100}]},
        [f"{TRANSPORT} nothing"],
    ),
    "a transport that is a list": (
        {"lines": [{"id": "a", "transport": ["tcp"], "host": "h", "port": 70000}]},
        [f"{TRANSPORT} a list of 1", "lines[0].port: expected 1–65535, got 70000"],
    ),
    "a line that is no mapping": ({"lines": ["tcp"]}, [f"{TRANSPORT} 'tcp'"]),
    "no store and bad days": (
        {"readings": {"keep_days": 0}},
        [f"{STORE} nothing", "readings.keep_days: expected 1–36500 days, got 0"],
    ),
    "an unknown store and a bad address": (
        {"readings": {"store": "influx", "url": "ftp://h", "bucket": "b"}},
        [
            f"{STORE} 'influx'",
            "readings.url: expected http://HOST:PORT or https://…, no credentials, got 'ftp://h'",
        ],
    ),
}


def faults_of(folder: Path, document: dict[str, Any]) -> list[str]:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(SITE | document), encoding="utf-8")
    with pytest.raises(UnableToLoadSiteError) as refusal:
        load(path)
    return [f"{fault.key}: {fault.message}" for fault in refusal.value.faults]


@pytest.mark.parametrize(("document", "expected"), FAULTS.values(), ids=FAULTS)
def test_the_other_faults_of_a_mapping_are_told_with_the_key_that_chooses_its_shape(
    tmp_path: Path, document: dict[str, Any], expected: list[str]
):
    assert sorted(faults_of(tmp_path, document)) == sorted(expected)
