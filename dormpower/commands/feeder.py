"""`dormpower feeder list`: feeders with their live demand."""

import typer

from config.settings import load
from dormpower.books import feeders
from dormpower.commands.opening import ConfigOption, JsonOption, site_books
from dormpower.commands.showing import show_json, show_table

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Feeders with their live demand.")

_COLUMNS = (
    "feeder",
    "parent",
    "limit kW",
    "demand kW",
    "of limit",
    "off",
    "source",
    "mode",
    "decided",
    "alarms",
)


@app.callback()
def group() -> None:
    """Keep `list` a command of its own beside those to come."""


@app.command("list")
def list_feeders(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every feeder as of the gateway's last decision."""
    settings = load(config)
    with site_books(settings) as books, books.read() as connection:
        found = feeders.feeders_now(connection)
    if as_json:
        show_json({"items": found})
        return
    show_table(
        _COLUMNS,
        (
            (
                one.feeder_id,
                one.parent,
                _kw(one.limit_w),
                _kw(one.measured_w),
                _share(one),
                one.circuits_off,
                one.source,
                one.mode,
                one.decided_at,
                ", ".join(one.alarms),
            )
            for one in found
        ),
        zone=settings.zone,
    )


def _kw(power_w: int | None) -> str | None:
    return None if power_w is None else f"{power_w / 1000:.1f}"


def _share(one: feeders.FeederNow) -> str | None:
    return None if one.measured_w is None or not one.limit_w else f"{one.measured_w / one.limit_w:.0%}"
