"""Where the files of a backup belong. A manifest is not trusted: whoever packs an archive writes it.

A file belongs beside the site file, whatever the links there lead to. Another place counts only where the site
file that is in place already names it: that one is the operator's own word, the archive's copy of it is not.
"""

import os
from pathlib import Path

import sqlalchemy as sa

from config.settings import UnableToLoadSiteError, places_of
from dormpower.books.database import sqlite_path
from dormpower.commands.archive import Manifest


class UnableToPlaceBackupError(Exception):
    """A file of the backup would be written where it must not be; nothing was. The message says which."""


def targets_of(manifest: Manifest, site_path: Path) -> dict[str, Path]:
    """Return where each file belongs, by role; the site file takes the name that --config gives it.

    Raises UnableToPlaceBackupError.
    """
    folder = site_path.parent
    targets: dict[str, Path] = {}
    own_places: set[Path] | None = None
    for entry in manifest.files:
        target = site_path if entry.role == "site" else Path(os.path.normpath(folder / entry.path))
        if folder not in target.parents:
            own_places = _own_places(site_path) if own_places is None else own_places
            if target not in own_places:
                raise UnableToPlaceBackupError(
                    f"{entry.name}: the backup would write it to {target}, outside {folder}; "
                    f"where that is right, put a site file that names it at {site_path} first, and use --force"
                )
        if target in targets.values():
            raise UnableToPlaceBackupError(f"{entry.name}: the backup would write two files to {target}")
        targets[entry.role] = target
    return targets


def _own_places(site_path: Path) -> set[Path]:
    """Return the files that the site file in place names for its data; none where it can't be read."""
    try:
        places = places_of(site_path)
    except UnableToLoadSiteError:
        return set()
    found = [places.readings]
    if places.rooms is not None:
        found.append(places.rooms)
    database = sa.make_url(places.database)
    if database.drivername == "sqlite":
        found.append(sqlite_path(database, base=site_path.parent))
    return {Path(os.path.normpath(path)) for path in found}
