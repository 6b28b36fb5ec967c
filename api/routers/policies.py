"""Policies in force, and changing them: proposed, tried against the present, applied by an admin."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import Allowed, Context
from api.json_response import Json
from api.problems import Problem, Refusal, not_found
from api.queries import Line, Paged
from api.roles import PREFIX
from config.changed_policies import policy_sections, policy_sections_on_disk, with_policies
from config.faults import UnableToLoadSiteError
from dormpower.books import policies, policy_proposals, shadow
from dormpower.books.policy_proposals import Proposal, State

router = APIRouter(prefix=PREFIX, tags=["policies"])

MAX_CIRCUITS = 1_000_000

# Which sections a rule is made of.
SECTIONS_OF = {
    "rule:arrears": ("arrears",),
    "rule:overload": ("overload", "night_mode"),
    "rule:prohibited": ("prohibited",),
    "rule:shedding": ("shedding",),
    "rule:curfew": ("curfew",),
    "rule:min_off": ("min_off",),
    "rule:trips": ("trips",),
    "rule:closings": ("closings",),
}

Section = Literal[
    "arrears", "overload", "prohibited", "shedding", "curfew", "night_mode", "min_off", "trips", "closings"
]
Source = Literal["file", "proposal"]


class PolicyJson(BaseModel):
    """A rule as it is in force and since when; `proposal_id` where one of its sections was changed."""

    rule: str
    changed_at: datetime
    described: dict[str, Any]
    source: Source
    proposal_id: str | None


class SectionJson(BaseModel):
    """A section of the site file's `policies` as it is in force; `content` null where the file has none."""

    section: Section
    source: Source
    proposal_id: str | None
    applied_at: datetime | None
    content: dict[str, Any] | None


class PoliciesJson(BaseModel):
    """All rules by name, and the sections they are made of."""

    items: list[PolicyJson]
    sections: list[SectionJson]
    in_shadow: bool = Field(
        description="Restored books that nobody has confirmed: every rule is in shadow, whatever its mode says."
    )


class ProposalRequest(BaseModel):
    """Which section, its whole content as it would stand in the site file, and why."""

    model_config = ConfigDict(extra="forbid")

    section: Section
    content: dict[str, Any]
    note: Line


class FaultJson(BaseModel):
    """Why the gateway can't work with a proposal."""

    key: str
    message: str


class PolicyProposalJson(BaseModel):
    """A proposal. `dry_run` is null until the gateway has answered, or where it can't work with it: `refusal`.

    In lists `dry_run` is without its `items`.
    """

    proposal_id: str
    section: Section
    content: dict[str, Any]
    note: str
    proposed_by: str
    proposed_at: datetime
    state: State
    dry_run_asked_at: datetime | None
    dry_run_at: datetime | None
    dry_run: dict[str, Any] | None
    dry_run_valid_until_at: datetime | None = Field(description="Real time.")
    refusal: list[FaultJson] | None
    approved_by: str | None
    approved_at: datetime | None
    applied_at: datetime | None = Field(description="Null until the gateway has taken it over.")
    ended_by: str | None
    ended_at: datetime | None


class PolicyProposalsJson(BaseModel):
    """A page of proposals, newest first."""

    items: list[PolicyProposalJson]
    next_cursor: str | None


class ProposalsQuery(Paged):
    """Which proposals."""

    state: State | None = None


class ApplyRequest(BaseModel):
    """The number of circuits that the dry run said would be cut."""

    model_config = ConfigDict(extra="forbid")

    circuits: Annotated[int, Field(strict=True, ge=0, le=MAX_CIRCUITS)]


def _json(proposal: Proposal, *, items: bool = True) -> dict[str, Any]:
    fields = {
        name: getattr(proposal, name)
        for name in PolicyProposalJson.model_fields
        if name not in ("dry_run", "refusal")
    }
    dry_run = proposal.dry_run
    if dry_run is not None and not items:
        dry_run = {name: value for name, value in dry_run.items() if name != "items"}
    refusal = [{"key": key, "message": message} for key, message in proposal.refusal or ()]
    return fields | {"dry_run": dry_run, "refusal": refusal or None}


@router.get("/policies", response_model=PoliciesJson, summary="Policies in force")
def list_policies(allowed: Allowed, context: Context) -> Response:
    """Return each rule as the gateway has it in force, since when, and where it comes from."""
    del allowed
    with context.books.read() as connection:
        versions = policies.versions(connection)
        sections = policy_proposals.in_force(connection, policy_sections(context.site))
        in_shadow = shadow.awaits_confirmation(connection)
    changed = {one.section: one.proposal_id for one in sections if one.proposal_id is not None}
    items = []
    for rule, version in versions.items():
        proposal_ids = [changed[section] for section in SECTIONS_OF.get(rule, ()) if section in changed]
        items.append(
            {
                "rule": rule,
                "changed_at": version.changed_at,
                "described": version.described,
                "source": "proposal" if proposal_ids else "file",
                "proposal_id": max(proposal_ids, default=None),
            }
        )
    shown = [{name: getattr(one, name) for name in SectionJson.model_fields} for one in sections]
    return Json({"items": items, "sections": shown, "in_shadow": in_shadow})


@router.post(
    "/policies/proposals", status_code=201, response_model=PolicyProposalJson, summary="Propose a change"
)
def propose(wanted: ProposalRequest, allowed: Allowed, context: Context) -> Response:
    """Put a change of one section on record; it is checked as the site file is, and changes nothing."""
    with context.books.read() as connection:
        in_force = policy_proposals.contents(connection)
    try:
        with_policies(context.site, {**in_force, wanted.section: wanted.content})
    except UnableToLoadSiteError as refusal:
        faults = [{"where": fault.key, "message": fault.message} for fault in refusal.faults]
        detail = "; ".join(f"{one['where']}: {one['message']}" for one in faults)
        raise Refusal(Problem.INVALID, detail, errors=faults) from refusal
    try:
        with context.books.write() as connection:
            proposal = policy_proposals.propose(
                connection,
                section=wanted.section,
                content=wanted.content,
                note=wanted.note,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except policy_proposals.UnableToProposeError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return Json(_json(proposal), status_code=201)


@router.get("/policies/proposals", response_model=PolicyProposalsJson, summary="List proposals")
def list_proposals(wanted: Annotated[ProposalsQuery, Query()], allowed: Allowed, context: Context) -> Response:
    """Return proposals, ended ones too."""
    del allowed
    with context.books.read() as connection:
        found, cursor = policy_proposals.listing(
            connection, state=wanted.state, limit=wanted.limit, cursor=wanted.cursor
        )
    return Json({"items": [_json(one, items=False) for one in found], "next_cursor": cursor})


@router.get("/policies/proposals/{proposal_id}", response_model=PolicyProposalJson, summary="One proposal")
def show_proposal(proposal_id: str, allowed: Allowed, context: Context) -> Response:
    """Return a proposal with all that its dry run found."""
    del allowed
    try:
        with context.books.read() as connection:
            return Json(_json(policy_proposals.get(connection, proposal_id)))
    except policy_proposals.UnableToFindProposalError as refusal:
        raise not_found() from refusal


@router.post(
    "/policies/proposals/{proposal_id}/dry-run",
    status_code=202,
    response_model=PolicyProposalJson,
    summary="Ask what a proposal would do now",
)
def ask_dry_run(proposal_id: str, allowed: Allowed, context: Context) -> Response:
    """Have the gateway try the proposal against the present; nothing is done. Its answer is on the proposal."""
    del allowed
    try:
        with context.books.write() as connection:
            proposal = policy_proposals.ask_dry_run(
                connection, proposal_id=proposal_id, now=context.clock.now()
            )
    except policy_proposals.UnableToFindProposalError as refusal:
        raise not_found() from refusal
    except policy_proposals.UnableToChangeProposalError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    return Json(_json(proposal), status_code=202)


@router.post(
    "/policies/proposals/{proposal_id}/apply",
    status_code=202,
    response_model=PolicyProposalJson,
    summary="Apply a proposal",
)
def apply(proposal_id: str, wanted: ApplyRequest, allowed: Allowed, context: Context) -> Response:
    """Have the gateway take a proposal over. Where anything does not fit any more, nothing is changed (409)."""
    own_sections = policy_sections_on_disk(context.site)
    try:
        with context.books.write() as connection:
            section = policy_proposals.get(connection, proposal_id).section
            proposal = policy_proposals.approve(
                connection,
                proposal_id=proposal_id,
                circuits=wanted.circuits,
                file_fingerprint=policy_proposals.fingerprint_of(own_sections.get(section)),
                actor=allowed.principal.user.username,
                now=context.clock.now(),
                real_now=context.clock.real_now(),
            )
    except policy_proposals.UnableToFindProposalError as refusal:
        raise not_found() from refusal
    except policy_proposals.UnableToChangeProposalError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    return Json(_json(proposal), status_code=202)


@router.delete("/policies/proposals/{proposal_id}", status_code=204, summary="Withdraw a proposal")
def withdraw(proposal_id: str, allowed: Allowed, context: Context) -> Response:
    """Take a proposal back that is not in force yet."""
    try:
        with context.books.write() as connection:
            policy_proposals.withdraw(
                connection,
                proposal_id=proposal_id,
                actor=allowed.principal.user.username,
                now=context.clock.now(),
            )
    except policy_proposals.UnableToFindProposalError as refusal:
        raise not_found() from refusal
    except policy_proposals.UnableToChangeProposalError as refusal:
        raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
    return Response(status_code=204)
