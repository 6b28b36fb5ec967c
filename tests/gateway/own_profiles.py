"""A site with a profile of its own: a shipped map, with other words about flags and trips."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from config.profiles import SHIPPED
from tests.gateway.composed_site import site_document

OWN = "own-dual"


def write_profile(folder: Path, *, like: str = "dormpower-dual", name: str = OWN, **said: Any) -> None:
    """Write a profile of the site's own into `folder/profiles`."""
    profile = yaml.safe_load((SHIPPED / f"{like}.yaml").read_text(encoding="utf-8"))
    (folder / "profiles").mkdir(exist_ok=True)
    text = yaml.safe_dump({**profile, "name": name, **said})
    (folder / "profiles" / f"{name}.yaml").write_text(text, encoding="utf-8")


def own_document(policies: Mapping[str, Any], *, rooms: int = 1, **more: Any) -> dict[str, Any]:
    """Return a site file as `site_document` does, all its modules of the site's own profile."""
    document = site_document(policies, rooms=rooms, profiles_folder="profiles", **more)
    return document | {"modules": [{**one, "profile": OWN} for one in document["modules"]]}
