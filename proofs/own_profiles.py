"""Profiles of a site of its own: a shipped model's map, with other words about its flags and trips."""

from pathlib import Path
from typing import Any

import yaml

from config.profiles import SHIPPED

PROFILES_FOLDER = "profiles"
"""Where they lie beside the site file, as its key `profiles_folder` says."""


def write_profile(folder: Path, *, name: str, like: str, **said: Any) -> None:
    """Write the profile `name` for a site's folder: that of `like`, with other values for some keys."""
    profile = yaml.safe_load((SHIPPED / f"{like}.yaml").read_text(encoding="utf-8"))
    profiles = folder / PROFILES_FOLDER
    profiles.mkdir(exist_ok=True)
    text = yaml.safe_dump({**profile, "name": name, **said})
    (profiles / f"{name}.yaml").write_text(text, encoding="utf-8")
