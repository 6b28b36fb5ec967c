"""`dormpower timeline CIRCUIT`: what happened to a circuit."""

from typing import Annotated

import typer

from config.settings import load
from dormpower.books import rooms
from dormpower.books import timeline as books_timeline
from dormpower.commands.opening import ConfigOption, JsonOption, site_books
from dormpower.commands.showing import CursorOption, LanguageOption, LimitOption, show_json, show_table
from dormpower.domain.evidence import shown_evidence
from dormpower.domain.timeline import Entry, HoldPlaced, explain_entry, fields_of
from dormpower.messages.catalogue import text


class UnableToFindCircuitError(Exception):
    """There is no circuit of this id."""


def timeline(
    circuit: Annotated[str, typer.Argument(metavar="CIRCUIT", help="A circuit's id: south-03-412-ac.")],
    *,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    language: LanguageOption = "en",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to a circuit, newest first: holds, states, commands."""
    settings = load(config)
    with site_books(settings) as books, books.read() as connection:
        if rooms.room_of_circuit(connection, circuit_id=circuit) is None:
            raise UnableToFindCircuitError(f"circuit {circuit}: there is none of this id")
        found, next_cursor = books_timeline.page(
            connection, circuit_id=circuit, spans=None, limit=limit, cursor=cursor
        )

    def said(entry: Entry) -> str:
        why = explain_entry(entry)
        sentence = text(why.code, why.params, language, zone=settings.zone)
        evidence = (
            shown_evidence(entry.hold.reason, entry.hold.evidence) if isinstance(entry, HoldPlaced) else None
        )
        if evidence is None:
            return sentence
        return f"{sentence} {text(evidence.code, evidence.params, language, zone=settings.zone)}"

    if as_json:
        items = [{**fields_of(entry), "text": said(entry)} for entry in found]
        show_json({"items": items, "next_cursor": next_cursor})
        return
    show_table(
        ("at", "what"),
        ((entry.at, said(entry)) for entry in found),
        zone=settings.zone,
        next_cursor=next_cursor,
    )
