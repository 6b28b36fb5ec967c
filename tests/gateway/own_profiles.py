"""A composed site all of whose modules have a profile of the site's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proofs.own_profiles import PROFILES_FOLDER, write_profile
from tests.gateway.composed_site import site_document

_OWN = "own-dual"


def write_own(folder: Path, **said: Any) -> None:
    """Write the profile: the dual module's map, with other values for some keys."""
    write_profile(folder, name=_OWN, like="dormpower-dual", **said)


def own_document(policies: Mapping[str, Any], *, rooms: int = 1, **more: Any) -> dict[str, Any]:
    """Return a site file as `site_document` does, all its modules of the site's own profile."""
    document = site_document(policies, rooms=rooms, profiles_folder=PROFILES_FOLDER, **more)
    return document | {"modules": [{**one, "profile": _OWN} for one in document["modules"]]}
