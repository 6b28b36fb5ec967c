"""TLS to a real mosquitto whose certificate comes from an authority made for the test."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.profiles import MqttProfile, load_profiles
from config.settings import MqttSettings
from dormpower.clock import real_clock
from gateway.drivers.mqtt.link import MqttLink
from gateway.drivers.mqtt.profile_messages import ProfileMessages

DEADLINE_S = 20.0
pytestmark = [pytest.mark.needs("mosquitto", "openssl")]


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> Path:
    certificate = folder / f"{name}.crt"
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", folder / f"{name}.key", "-out", certificate,
    )  # fmt: skip
    return certificate


def make_server(folder: Path, authority: str, *, address: str) -> str:
    """Make a server's key and certificate; returns mosquitto's lines for them."""
    key, request, certificate = (folder / f"server.{suffix}" for suffix in ("key", "csr", "crt"))
    names = folder / "names"
    names.write_text(f"subjectAltName=IP:{address}\n", encoding="utf-8")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=broker", "-keyout", key, "-out", request)
    openssl(
        "x509", "-req", "-in", request, "-CA", folder / f"{authority}.crt",
        "-CAkey", folder / f"{authority}.key",
        "-CAcreateserial", "-days", "2", "-extfile", names, "-out", certificate,
    )  # fmt: skip
    return f"allow_anonymous true\ncertfile {certificate}\nkeyfile {key}"


def first_word_of_the_line(port: int, ca_file: Path) -> tuple[bool, str]:
    """Return (online, detail) as the link first tells of the broker."""
    told: list[tuple[bool, str]] = []
    profile = load_profiles()["dormpower-mqtt"]
    assert isinstance(profile, MqttProfile)

    async def story() -> None:
        link = MqttLink(
            settings=MqttSettings(
                url=f"mqtts://127.0.0.1:{port}",
                host="127.0.0.1",
                port=port,
                tls=True,
                username=None,
                password=None,
                ca_file=ca_file,
            ),
            site_id="s",
            gateway_id="g1",
            modules={"m-1": ProfileMessages(profile)},
            clock=real_clock(),
            submit=lambda sample, *, done: None,
            on_module=lambda module_id, online, detail: None,
            on_line=lambda line_id, *, online, detail: told.append((online, detail)),
        )
        await link.start()
        deadline = time.monotonic() + DEADLINE_S
        while not told:
            assert time.monotonic() < deadline, "waited for word of the line"
            await asyncio.sleep(0.005)
        await link.stop()

    asyncio.run(story())
    return told[0]


def test_a_broker_of_the_named_authority_is_connected_to(tmp_path: Path, start_mosquitto: Callable[[str], int]):
    authority = make_authority(tmp_path, "campus")
    port = start_mosquitto(make_server(tmp_path, "campus", address="127.0.0.1"))
    assert first_word_of_the_line(port, authority) == (True, "MQTT 5")


def test_a_broker_of_another_authority_is_refused_with_the_reason(
    tmp_path: Path, start_mosquitto: Callable[[str], int]
):
    make_authority(tmp_path, "campus")
    other = make_authority(tmp_path, "other")
    port = start_mosquitto(make_server(tmp_path, "campus", address="127.0.0.1"))
    online, detail = first_word_of_the_line(port, other)
    assert not online
    assert detail.startswith("the broker's certificate is not trusted: ")
    assert detail.endswith("; check mqtt.ca_file and the name in mqtt.url")


def test_a_certificate_for_another_address_is_refused_with_the_reason(
    tmp_path: Path, start_mosquitto: Callable[[str], int]
):
    authority = make_authority(tmp_path, "campus")
    port = start_mosquitto(make_server(tmp_path, "campus", address="192.0.2.7"))
    online, detail = first_word_of_the_line(port, authority)
    assert not online
    assert "certificate is not valid for '127.0.0.1'" in detail


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path, start_mosquitto: Callable[[str], int]):
    make_authority(tmp_path, "campus")
    port = start_mosquitto(make_server(tmp_path, "campus", address="127.0.0.1"))
    empty = tmp_path / "empty.crt"
    empty.write_text("no certificate", encoding="utf-8")
    assert first_word_of_the_line(port, empty) == (
        False,
        f"mqtt.ca_file: expected certificates (PEM) in {empty}",
    )
