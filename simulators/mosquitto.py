"""The same access rules for mosquitto: a configuration, a password file and an access list."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from simulators.access import GATEWAY_USER


class UnableToWriteMosquittoConfigError(Exception):
    """mosquitto_passwd is missing or failed; the message says why."""


def access_list(*, site_id: str, gateway_user: str = GATEWAY_USER) -> str:
    """Return the access list: the gateway has the site, each module (by its user name) its own topics."""
    own = f"dormpower/{site_id}/%u"
    return "\n".join(
        (
            f"user {gateway_user}",
            f"topic readwrite dormpower/{site_id}/#",
            "",
            f"pattern write {own}/reading",
            f"pattern write {own}/status",
            f"pattern write {own}/result",
            f"pattern read {own}/command",
            "",
        )
    )


def write_mosquitto_config(
    folder: Path,
    *,
    site_id: str,
    credentials: Mapping[str, str],
    gateway_user: str = GATEWAY_USER,
    host: str = "127.0.0.1",
    port: int = 1883,
) -> Path:
    """Write `mosquitto.conf`, `mosquitto.passwd` and `mosquitto.acl` into a folder; returns the first.

    `use_username_as_clientid` keeps a module from taking over another's session; a second connection of the
    same user ends the first. Raises UnableToWriteMosquittoConfigError.
    """
    passwords = folder / "mosquitto.passwd"
    access = folder / "mosquitto.acl"
    config = folder / "mosquitto.conf"
    descriptor = os.open(passwords, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(f"{user}:{password}\n" for user, password in credentials.items())
    _hash(passwords)
    access.write_text(access_list(site_id=site_id, gateway_user=gateway_user), encoding="utf-8")
    access.chmod(0o600)
    lines = [
        f"listener {port} {host}",
        "allow_anonymous false",
        "use_username_as_clientid true",
        f"password_file {passwords}",
        f"acl_file {access}",
        "persistence false",
        "max_queued_messages 100000",
        "log_dest stderr",
        "",
    ]
    if os.geteuid() == 0:
        lines.insert(0, "user root")  # started by root it would give up the right to read these files
    config.write_text("\n".join(lines), encoding="utf-8")
    return config


def _hash(passwords: Path) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        raise UnableToWriteMosquittoConfigError("mosquitto_passwd: not found; install the package mosquitto")
    done = subprocess.run(  # noqa: S603 - our own file, a program found by name
        [program, "-U", str(passwords)], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise UnableToWriteMosquittoConfigError(f"mosquitto_passwd: {done.stderr.strip()}")
