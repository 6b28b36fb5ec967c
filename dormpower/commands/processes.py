"""`dormpower gateway`, `api` and `simulate`: each becomes the process of its own that its package describes."""

import os
import sys
from pathlib import Path

import typer

from config.settings import resolve_path
from dormpower.commands.opening import ConfigOption


class UnableToStartProcessError(Exception):
    """The process can't be started; the message says why."""


def process_arguments(package: str, config: str, *extra: str) -> list[str]:
    """Return the command line of a process: this Python, `-m package --config FILE …`."""
    return [sys.executable, "-m", package, "--config", config, *extra]


def _become(package: str, config: Path | None, extra: list[str]) -> None:
    path = resolve_path(config)
    if not path.is_file():
        raise UnableToStartProcessError(
            f"{path}: there is no such file; name one with --config FILE or DORMPOWER_CONFIG"
        )
    arguments = process_arguments(package, str(path), *extra)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(arguments[0], arguments)  # noqa: S606 - our own interpreter and package, no shell


def gateway(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the gateway alone: polls, stores, charges and switches."""
    _become("gateway", config, context.args)


def api(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the API alone."""
    _become("api", config, context.args)


def simulate(context: typer.Context, config: ConfigOption = None) -> None:
    """Run simulated modules for the site's lines and broker; `python -m simulators --help` has its options."""
    _become("simulators", config, context.args)
