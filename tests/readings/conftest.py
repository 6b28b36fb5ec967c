"""Fixtures: a real InfluxDB of Debian's package on loopback, or the server that the environment names."""

import os
from collections.abc import Iterator

import pytest

from proofs.influxdb_server import InfluxServer


@pytest.fixture(scope="session")
def influx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    server = InfluxServer(tmp_path_factory.mktemp("influxdb"))
    yield server
    server.close()


@pytest.fixture
def influx_target(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where the contract suite writes: the server of the environment, else Debian's."""
    if "INFLUXDB_URL" in os.environ:
        return {
            "url": os.environ["INFLUXDB_URL"],
            "token": os.environ.get("INFLUXDB_TOKEN", ""),
            "org": os.environ.get("INFLUXDB_ORG", ""),
            "bucket": os.environ.get("INFLUXDB_BUCKET", "dormpower_test"),
        }
    server = request.getfixturevalue("influx_server")
    return {"url": server.url, "token": "any", "org": "campus", "bucket": server.new_bucket()}
