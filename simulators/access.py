"""Who may do what at the broker: credentials a module, and each module its own topics (invariant 39)."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

GATEWAY_USER = "gateway"
_PUBLISHES = ("reading", "status", "result")
_SUBSCRIBES = ("command",)


class UnableToReadCredentialsError(Exception):
    """The credentials file is missing or damaged; the message names the file and the fault."""


def make_credentials(
    module_ids: Iterable[str], *, gateway_password: str | None = None, gateway_user: str = GATEWAY_USER
) -> dict[str, str]:
    """Make a password of 128 random bits for the gateway and for each module."""
    made = {module_id: secrets.token_urlsafe(16) for module_id in module_ids}
    return {gateway_user: gateway_password or secrets.token_urlsafe(16), **made}


def save_credentials(path: Path, credentials: dict[str, str]) -> None:
    """Write the file (user → password, JSON), readable by its owner alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(credentials, file, indent=1)


def load_credentials(path: Path) -> dict[str, str]:
    """Read the file. Raises UnableToReadCredentialsError."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UnableToReadCredentialsError(f"{path}: expected user names and passwords, got {fault}") from fault
    if not isinstance(record, dict) or not all(isinstance(value, str) for value in record.values()):
        raise UnableToReadCredentialsError(f"{path}: expected a mapping of user names to passwords")
    return record


def topic(site_id: str, module_id: str, what: str) -> str:
    """Return a module's topic: `dormpower/{site}/{module}/{what}`."""
    return f"dormpower/{site_id}/{module_id}/{what}"


def may_publish(*, site_id: str, user: str, gateway_user: str, to: str) -> bool:
    """Return whether a user may publish to a topic."""
    if user == gateway_user:
        return to.startswith(f"dormpower/{site_id}/")
    return to in {topic(site_id, user, what) for what in _PUBLISHES}


def may_subscribe(*, site_id: str, user: str, gateway_user: str, to: str) -> bool:
    """Return whether a user may subscribe to a filter; a module's must be its own command, to the letter."""
    if user == gateway_user:
        return to.startswith(f"dormpower/{site_id}/")
    return to in {topic(site_id, user, what) for what in _SUBSCRIBES}
