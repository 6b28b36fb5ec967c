"""`dormpower site`: checking the description of a site."""

import json
from typing import Any

import typer

from config.faults import Fault, UnableToLoadSiteError
from config.settings import Settings, load, resolve_path
from dormpower.commands.opening import ConfigOption, JsonOption

app = typer.Typer(no_args_is_help=True, help="The site file and what it describes.")


@app.callback()
def _site() -> None:
    """The site file and what it describes."""


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Validate the site and its profiles: every fault with file, key, what was found and what was expected."""
    try:
        settings = load(config)
    except UnableToLoadSiteError as refusal:
        if as_json:
            typer.echo(json.dumps({"faults": _as_json(refusal.faults), "warnings": []}, ensure_ascii=False))
        else:
            for fault in refusal.faults:
                typer.echo(str(fault), err=True)
            typer.echo(f"{resolve_path(config)}: {_count(len(refusal.faults), 'fault')}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        result = {"faults": [], "warnings": _as_json(settings.warnings), "site": _summary(settings)}
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    for warning in settings.warnings:
        typer.echo(f"warning: {warning}", err=True)
    counted = ", ".join(f"{count} {name}" for name, count in _summary(settings).items())
    typer.echo(f"{resolve_path(config)}: no fault; {counted}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _summary(settings: Settings) -> dict[str, int]:
    site = settings.site
    return {
        "rooms": len(site.rooms),
        "circuits": len(site.circuits()),
        "modules": len(site.modules),
        "lines": len(site.lines),
        "feeders": len(site.feeders),
    }


def _as_json(faults: Any) -> list[dict[str, str]]:
    return [_fault_json(fault) for fault in faults]


def _fault_json(fault: Fault) -> dict[str, str]:
    return {"file": fault.file, "key": fault.key, "message": fault.message}
