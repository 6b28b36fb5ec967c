"""A site with other contents of some sections of `policies`: checked as the site file is, nothing read anew."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from config.faults import Findings, UnableToLoadSiteError, show_path
from config.policy_settings import check_rules, policies_of
from config.settings import Settings
from config.site_parsing import parse_site_file
from config.yaml_source import read_yaml


def with_policies(settings: Settings, sections: Mapping[str, Any]) -> Settings:
    """Return a site with other contents of some sections of `policies`, checked as the site file is.

    Everything else stays as it was loaded: no file is read again. Raises UnableToLoadSiteError.
    """
    findings = Findings(show_path(settings.path))
    policies = {**(settings.document.get("policies") or {}), **sections}
    file = parse_site_file({**settings.document, "policies": policies}, findings)
    if file is None:
        raise UnableToLoadSiteError(findings.faults)
    check_rules(file, settings.sourced_rooms, settings.profiles, findings)
    findings.raise_if_any()
    return replace(settings, policies=policies_of(file), warnings=tuple(findings.warnings))


def policy_sections(settings: Settings) -> dict[str, Any]:
    """Return the site file's own contents of the sections of `policies`; what it leaves out is not there."""
    return dict(settings.document.get("policies") or {})


def policy_sections_on_disk(settings: Settings) -> dict[str, Any]:
    """Return them as the site file has them now; as they were loaded where they can't be read."""
    document = read_yaml(settings.path, Findings(show_path(settings.path)))
    found = None if document is None else document.get("policies") or {}
    return dict(found) if isinstance(found, dict) else policy_sections(settings)
