"""`dormpower approval`: cuts that the breaker holds back until a person lets them through."""

from typing import Annotated

import typer

from config.settings import load
from dormpower.books import control
from dormpower.books.control import ChosenCut
from dormpower.commands.opening import ConfigOption, JsonOption, campus_now, operator, site_books
from dormpower.commands.showing import show_json, show_table
from dormpower.domain.holds import Reason
from dormpower.wake import send_wake

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

CutsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CIRCUIT[:REASON]]…", help="Without a reason, all cuts that wait for the circuit."),
]


@app.command("list")
def list_approvals(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the cuts that wait, oldest first; their circuits stay supplied."""
    settings = load(config)
    with site_books(settings) as books, books.read() as connection:
        found = control.pending(connection)
    if as_json:
        show_json({"items": found})
        return
    show_table(
        ("circuit", "reason", "waits since", "approved", "by", "refused", "by"),
        (
            (
                one.circuit_id,
                one.reason,
                one.since_at,
                one.approved_at,
                one.approved_by,
                one.refused_at,
                one.refused_by,
            )
            for one in found
        ),
        zone=settings.zone,
    )


@app.command("approve")
def approve(
    cuts: CutsArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="All cuts that wait.")] = False,
    config: ConfigOption = None,
) -> None:
    """Let cuts through; each is judged anew before it is made."""
    chosen = _chosen(cuts, everything=everything)
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        approved = control.approve_cuts(connection, chosen=chosen, actor=operator(), now=now)
    send_wake(settings.folder)
    typer.echo(f"approved: {approved}")


@app.command("refuse")
def refuse(
    reason: Annotated[str, typer.Option("--reason", help="Why these cuts are wrong.")],
    cuts: CutsArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="All cuts that wait.")] = False,
    config: ConfigOption = None,
) -> None:
    """Say no to cuts: they are not made for a day, and keep no other cut from passing."""
    chosen = _chosen(cuts, everything=everything)
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        refused = control.refuse_cuts(connection, chosen=chosen, actor=operator(), reason=reason, now=now)
    typer.echo(f"refused: {refused}")


def _chosen(cuts: list[str] | None, *, everything: bool) -> list[ChosenCut] | None:
    """Return the cuts that are meant; None for all that wait."""
    if everything == bool(cuts):
        raise typer.BadParameter("expected circuits, or --all")
    return None if everything else [_cut(text) for text in cuts or ()]


def _cut(text: str) -> ChosenCut:
    circuit_id, _, reason = text.partition(":")
    if not reason:
        return ChosenCut(circuit_id)
    known = [one.value for one in Reason]
    if reason not in known:
        raise typer.BadParameter(f"{text}: expected one of {', '.join(known)} after the colon, got {reason!r}")
    return ChosenCut(circuit_id, reason)
