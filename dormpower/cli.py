"""The `dormpower` command: finds a command's module when it is asked for, and turns failures into sentences.

Exit codes: 0 done, 1 refused or failed (one clear sentence on standard error), 2 wrong usage. Standard output
holds results only: logs and complaints go to standard error, tracebacks to a log file.
"""

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from typer.core import TyperGroup

ENTRY_POINT_GROUP = "dormpower.commands"

# Name → "module:attribute": a Typer application, or a function that is one command.
BUILT_IN: Mapping[str, str] = {
    "demo": "dormpower.commands.demo:demo",
    "serve": "dormpower.commands.serve:serve",
    "gateway": "dormpower.commands.processes:gateway",
    "api": "dormpower.commands.processes:api",
    "simulate": "dormpower.commands.processes:simulate",
    "migrate": "dormpower.commands.ledger:migrate",
    "settle": "dormpower.commands.ledger:settle",
    "audit": "dormpower.commands.ledger:audit",
    "site": "dormpower.commands.site:app",
    "rooms": "dormpower.commands.rooms:app",
    "user": "dormpower.commands.user:app",
    "module": "dormpower.commands.module:app",
    "feeder": "dormpower.commands.feeder:app",
    "policy": "dormpower.commands.policy:app",
    "report": "dormpower.commands.report:app",
    "timeline": "dormpower.commands.timeline:timeline",
    "permit": "dormpower.commands.permit:app",
    "approval": "dormpower.commands.approval:app",
    "alarm": "dormpower.commands.alarm:app",
    "backup": "dormpower.commands.backup:backup",
    "restore": "dormpower.commands.restore:restore",
    "doctor": "dormpower.commands.doctor:doctor",
}
# A process of these takes its own arguments; they are handed on untouched.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
_PASSING = frozenset({"gateway", "api", "simulate"})


def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP) if find_spec(entry.module)}


class LazyCommands(TyperGroup):
    """Commands that are imported when they are used: a quick command does not pay for a slow one."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is the library's
        """Return the names of all commands whose module is there."""
        built_in = [name for name, target in BUILT_IN.items() if find_spec(target.split(":")[0])]
        return built_in + sorted(set(_registered()) - set(built_in))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return one command; None where there is no such command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        if cmd_name in BUILT_IN:
            module, attribute = BUILT_IN[cmd_name].split(":")
            found = getattr(import_module(module), attribute)
        else:
            found = _registered()[cmd_name].load()
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.command(cmd_name, context_settings=_PASSED_ON if cmd_name in _PASSING else None)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Electricity of student dormitories: metering, prepaid accounts, supply control.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dormpower {version('dormpower')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Electricity of student dormitories: metering, prepaid accounts, supply control."""


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def main() -> None:
    """Run the command line; every failure ends as a sentence and an exit code."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    try:
        app(prog_name="dormpower")
    except KeyboardInterrupt:
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as fault:  # noqa: BLE001 - the edge: no traceback reaches a person
        print(_sentence(fault), file=sys.stderr)  # noqa: T201 - the complaint itself
        sys.exit(1)


def _sentence(fault: Exception) -> str:
    """Return what a person reads; refusals (`UnableTo…Error`) carry it, others are logged with traceback."""
    name = type(fault).__name__
    if name.startswith("UnableTo"):
        return str(fault)
    if isinstance(fault, OSError) and fault.filename is not None:
        return f"{fault.filename}: {fault.strerror}"
    if isinstance(fault, OSError) and fault.errno in _OF_THE_DISK:
        return f"the disk can't be written to: {fault.strerror}; what was committed before is kept"
    if type(fault).__module__.startswith("sqlalchemy") and name in ("OperationalError", "DatabaseError"):
        return f"database: can't be used: {getattr(fault, 'orig', None) or fault}"
    return f"Something unexpected went wrong ({name}); the details are in {_log_unexpected(fault)}"


def _log_unexpected(fault: Exception) -> Path:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = home / "dormpower" / "error.log"
    text = "".join(traceback.format_exception(fault))
    entry = f"{datetime.now(UTC).isoformat()} {' '.join(sys.argv[:3])}\n{text}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a", encoding="utf-8") as file:
            file.write(entry)
    except OSError:
        handle, name = tempfile.mkstemp(prefix="dormpower-error-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(entry)
        return Path(name)
    return path
