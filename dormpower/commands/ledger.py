"""`dormpower migrate`, `settle` and `audit`: the books' version, what is due, and the proof."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.console import Console

from config.settings import load
from dormpower.books import audit_log, migration
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.commands.opening import ConfigOption, JsonOption, campus_now, operator, site_books


def migrate(config: ConfigOption = None) -> None:
    """Bring the books to this version, and to the site as it is described."""
    settings = load(config)
    now, today = campus_now(settings)
    books = open_books(settings.database, base=settings.folder)
    try:
        before = migration.current(books)
        migration.upgrade(books)
        sync_site(books=books, site=settings.site, now=now, today=today, actor=operator())
    finally:
        books.close()
    typer.echo(
        f"books at version {migration.head()} (before: {before or 'none'}), {len(settings.site.rooms)} rooms"
    )


def settle(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Settle what is due: post each closed campus day's consumption; safe to repeat."""
    from dormpower.books import journal, settlement  # noqa: PLC0415 - quick commands do without them

    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books:
        order = settings.policies.lot_order
        report = settlement.settle(books, now=now, zone=settings.zone, journal=journal.OrderedDays(order=order))
    if as_json:
        typer.echo(json.dumps(asdict(report), default=str))
    else:
        typer.echo(", ".join(f"{name}: {value}" for name, value in asdict(report).items()))


def audit(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Prove the books; exit 1 with what fails."""
    settings = load(config)
    with site_books(settings) as books:
        heads = audit_log.read_heads(settings.folder / audit_log.HEADS_FILE)
        broken = broken_rules(books, heads=heads, console=Console(stderr=True))
    from dormpower.books.proof import NOT_PROVEN, PROVEN  # noqa: PLC0415 - most commands do without it

    if as_json:
        told = {"holds": not broken, "broken": broken, "proven": PROVEN, "not_proven": NOT_PROVEN}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        for sentence in broken:
            typer.echo(sentence, err=True)
        for number, why in NOT_PROVEN.items():
            typer.echo(f"invariant {number} is not proven: {why}", err=True)
        verdict = "the books don't prove" if broken else "the books prove"
        typer.echo(f"{verdict}: invariants {', '.join(map(str, PROVEN))}", err=bool(broken))
    if broken:
        raise typer.Exit(1)


def broken_rules(
    books: Books, *, heads: Sequence[audit_log.Head] = (), console: Console | None = None
) -> list[str]:
    """Return a sentence for each rule that the books break; none where they prove. Progress on `console`."""
    from dormpower.books import proof  # noqa: PLC0415 - most commands do without it

    if console is None:
        return [str(one) for one in proof.prove(books, heads=heads)]
    with console.status("proving the books") as status:
        found = proof.prove(books, heads=heads, progress=lambda rule: status.update(f"proving: {rule}"))
    return [str(one) for one in found]
