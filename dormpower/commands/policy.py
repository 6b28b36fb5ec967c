"""`dormpower policy`: policies in force, and changing them while the site runs."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from config.changed_policies import policy_sections, policy_sections_on_disk, with_policies
from config.faults import Findings, show_path
from config.settings import Settings, load
from config.yaml_source import read_yaml
from dormpower.books import leases, policy_proposals
from dormpower.books.database import Books
from dormpower.books.policy_proposals import Proposal, State
from dormpower.clock import load_clock
from dormpower.commands.opening import ConfigOption, JsonOption, campus_now, operator, site_books
from dormpower.commands.showing import show_json, show_table

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

ProposalArgument = Annotated[str, typer.Argument(metavar="ID", help="The proposal, as `policy list` shows it.")]

WAIT_S = 30.0
_LOOK_EVERY_S = 0.2
_MOST_LISTED = 200


class UnableToReachGatewayError(Exception):
    """No gateway runs, or it did not answer in time; the message says what stands."""


class UnableToWorkWithProposalError(Exception):
    """The gateway can't work with the proposal; the message has the faults."""


@app.command("list")
def list_policies(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show where each section of `policies` comes from, and the proposals that are open."""
    settings = load(config)
    with site_books(settings) as books, books.read() as connection:
        sections = policy_proposals.in_force(connection, policy_sections(settings))
        found: list[Proposal] = []
        for state in (State.APPROVED, State.PROPOSED):
            found += policy_proposals.listing(connection, state=state, limit=_MOST_LISTED)[0]
    if as_json:
        show_json({"sections": sections, "proposals": [_as_json(one) for one in found]})
        return
    show_table(
        ("section", "from", "proposal", "since", "content"),
        (
            (one.section, one.source, one.proposal_id, one.applied_at, json.dumps(one.content, default=str))
            for one in sections
        ),
        zone=settings.zone,
    )
    show_table(
        ("proposal", "section", "state", "by", "at", "note"),
        (
            (one.proposal_id, one.section, one.state, one.proposed_by, one.proposed_at, one.note)
            for one in found
        ),
        zone=settings.zone,
    )


@app.command("propose")
def propose(
    section: Annotated[str, typer.Argument(metavar="SECTION", help=", ".join(policy_proposals.SECTIONS))],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Its whole content, YAML or JSON, as in the site file.")
    ],
    note: Annotated[str, typer.Option(help="Why.")],
    config: ConfigOption = None,
) -> None:
    """Propose another content of a section; prints the proposal's id."""
    if section not in policy_proposals.SECTIONS:
        raise typer.BadParameter(
            f"SECTION: expected one of {', '.join(policy_proposals.SECTIONS)}, got {section!r}"
        )
    settings = load(config)
    content = _content(file)
    now, _ = campus_now(settings)
    with site_books(settings) as books:
        with books.read() as connection:
            in_force = policy_proposals.contents(connection)
        with_policies(settings, {**in_force, section: content})
        with books.write() as connection:
            proposal = policy_proposals.propose(
                connection, section=section, content=content, note=note, actor=operator(), now=now
            )
    typer.echo(proposal.proposal_id)


@app.command("dry-run")
def dry_run(proposal_id: ProposalArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ask the running gateway what a proposal would do now; nothing is done."""
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books:
        _require_gateway(settings, books)
        with books.write() as connection:
            policy_proposals.ask_dry_run(connection, proposal_id=proposal_id, now=now)
        proposal = _wait(books, proposal_id, lambda one: one.dry_run_at is not None)
    if proposal is None:
        raise UnableToReachGatewayError(
            f"the gateway has not answered within {WAIT_S:g} s; `dormpower policy list` shows when it has"
        )
    if proposal.dry_run is None:
        raise UnableToWorkWithProposalError(_told(proposal))
    if as_json:
        show_json(proposal.dry_run)
        return
    _show_dry_run(settings, proposal, dict(proposal.dry_run))


@app.command("apply")
def apply(
    proposal_id: ProposalArgument,
    circuits: Annotated[int, typer.Option(min=0, help="How many the dry run said would be cut.")],
    config: ConfigOption = None,
) -> None:
    """Have the running gateway take a proposal over."""
    settings = load(config)
    clock = load_clock(settings.folder)
    own_sections = policy_sections_on_disk(settings)
    with site_books(settings) as books:
        _require_gateway(settings, books)
        with books.write() as connection:
            section = policy_proposals.get(connection, proposal_id).section
            policy_proposals.approve(
                connection,
                proposal_id=proposal_id,
                circuits=circuits,
                file_fingerprint=policy_proposals.fingerprint_of(own_sections.get(section)),
                actor=operator(),
                now=clock.now(),
                real_now=clock.real_now(),
            )
        proposal = _wait(books, proposal_id, lambda one: one.state is not State.APPROVED)
    if proposal is None:
        raise UnableToReachGatewayError(
            f"approved, and the gateway has not taken it over within {WAIT_S:g} s; "
            f"it may within {policy_proposals.TAKE_OVER_S // 60} min, `dormpower policy withdraw` stops it"
        )
    if proposal.applied_at is None:
        raise UnableToWorkWithProposalError(_told(proposal))
    typer.echo(f"applied: {section}")


@app.command("withdraw")
def withdraw(proposal_id: ProposalArgument, config: ConfigOption = None) -> None:
    """Take back a proposal that is not in force yet."""
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        policy_proposals.withdraw(connection, proposal_id=proposal_id, actor=operator(), now=now)
    typer.echo(f"withdrawn: {proposal_id}")


def _content(file: Path) -> dict[str, Any]:
    findings = Findings(show_path(file))
    content = read_yaml(file, findings)
    findings.raise_if_any()
    return dict(json.loads(json.dumps(content, default=str)))  # dates as the text that JSON has for them


def _require_gateway(settings: Settings, books: Books) -> None:
    name = f"gateway:{settings.gateway.gateway_id}"
    real_now = load_clock(settings.folder).real_now()
    if leases.holder_of(books=books, name=name, real_now=real_now) is None:
        raise UnableToReachGatewayError(
            f"gateway {settings.gateway.gateway_id} does not run: start it, since it alone knows the present; "
            "or change the site file"
        )


def _wait(books: Books, proposal_id: str, done: Callable[[Proposal], bool]) -> Proposal | None:
    """Return the proposal once it is `done`; None where that takes too long."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        with books.read() as connection:
            proposal = policy_proposals.get(connection, proposal_id)
        if done(proposal):
            return proposal
        time.sleep(_LOOK_EVERY_S)
    return None


def _told(proposal: Proposal) -> str:
    faults = "\n".join(": ".join(part for part in fault if part) for fault in proposal.refusal or ())
    return faults or f"proposal {proposal.proposal_id} is {proposal.state}"


def _as_json(proposal: Proposal) -> dict[str, Any]:
    shown = {name: getattr(proposal, name) for name in proposal.__dataclass_fields__ if name != "dry_run"}
    return shown | {"circuits": proposal.dry_run and proposal.dry_run["circuits"]}


def _show_dry_run(settings: Settings, proposal: Proposal, found: dict[str, Any]) -> None:
    show_table(
        ("effect", "circuit", "rule", "at", "off already", "evidence"),
        (
            (
                item["effect"],
                item["circuit_id"],
                item["rule"],
                item["at"],
                "yes" if item["already_off"] else "",
                ", ".join(f"{name}: {value}" for name, value in item["evidence"].items()),
            )
            for item in found["items"]
        ),
        zone=settings.zone,
    )
    counts = ", ".join(f"{name} {count}" for name, count in found["counts"].items() if count)
    stale, total = found["basis"]["stale"], found["basis"]["circuits"]
    typer.echo(f"{counts or 'nothing'}; {stale} of {total} circuits without a fresh reading")
    if found["basis"].get("in_shadow"):
        typer.echo(
            "the restore of this site awaits its confirmation, so nothing would be cut now: "
            "`dormpower restore --confirm`, then another dry run",
            err=True,
        )
        return
    typer.echo(
        f"to apply: dormpower policy apply {proposal.proposal_id} --circuits {found['circuits']}", err=True
    )
