"""The main job on what a large campus runs: mosquitto with its access list, PostgreSQL, InfluxDB."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from proofs.influxdb_server import InfluxServer
from proofs.main_job import MAIN_CIRCUITS, MAIN_PLAN, prove_main_job
from proofs.running_site import RunningSite, eventually
from proofs.site_folder import HOST, SITE_ID, SiteFolder
from simulators.mosquitto import write_mosquitto_config

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.needs("mosquitto", "mosquitto_passwd", "influxd", "postgres", "initdb"),
]


@pytest.fixture
def influx(tmp_path) -> Iterator[InfluxServer]:
    server = InfluxServer(tmp_path)
    yield server
    server.close()


def start_mosquitto(files: SiteFolder) -> subprocess.Popen[bytes]:
    port = files.ports["mqtt"]
    config = write_mosquitto_config(
        files.folder, site_id=SITE_ID, credentials=files.credentials, host=HOST, port=port
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with (files.folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)

    def listens() -> bool:
        assert process.poll() is None, (files.folder / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    eventually(listens, what="mosquitto listens")
    return process


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_main_job_holds_on_mosquitto_postgresql_and_influxdb(database_url, influx):
    bucket = influx.new_bucket()
    readings = {"store": "influxdb", "url": influx.url, "org": "campus", "bucket": bucket}
    plan = replace(MAIN_PLAN, database=database_url, readings=readings, broker="mosquitto")
    files = SiteFolder(plan)
    with ExitStack() as stack:
        stack.callback(files.remove)
        broker = start_mosquitto(files)
        stack.callback(broker.wait, 15)
        stack.callback(broker.terminate)
        files.restart_clock()
        site = stack.enter_context(RunningSite(files))
        prove_main_job(site)
        for circuit_id in MAIN_CIRCUITS:
            register_wh = site.point(circuit_id).register_wh
            eventually(
                lambda circuit_id=circuit_id, register_wh=register_wh: (
                    last_register(influx, bucket, circuit_id) == register_wh
                ),
                what=f"{circuit_id}: the last register is in InfluxDB",
            )
            day = site.get(
                f"/circuits/{circuit_id}/readings?start=2026-05-20T15:00:00Z&end=2026-05-20T23:00:00Z"
            )
            assert day["items"], "the API reads them back"
        assert site.stop("gateway") == 0


def last_register(influx: InfluxServer, bucket: str, circuit_id: str) -> int | None:
    answer = influx.query(f"SELECT last(register_wh) FROM reading WHERE circuit = '{circuit_id}'", bucket)
    series = answer["results"][0].get("series")
    return None if not series else int(series[0]["values"][0][1])
