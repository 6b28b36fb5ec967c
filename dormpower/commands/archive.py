"""The backup archive: one .tar.gz with a manifest that names every file, its size and its SHA-256."""

import hashlib
import json
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = "manifest.json"
FORMAT = 1
ROLES = frozenset({"site", "rooms", "clock", "clock_seen", "books", "books_dump", "readings"})
_PIECE = 1 << 20


class UnableToReadBackupError(Exception):
    """The archive is not a backup, is damaged or was changed; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """A file of a backup. `path` is where it belongs, from the data folder; `role` what it is."""

    name: str
    path: str
    role: str  # one of ROLES
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds, and of what."""

    format: int
    site_id: str
    made_at: str
    program_version: str
    books_version: str
    not_included: tuple[str, ...]
    files: tuple[ArchivedFile, ...]

    def of_role(self, role: str) -> ArchivedFile | None:
        """Return the file with a role; None where the backup has none."""
        return next((file for file in self.files if file.role == role), None)


def describe(source: Path, *, name: str, path: str, role: str) -> ArchivedFile:
    """Return the entry of a file that is about to be archived."""
    return ArchivedFile(
        name=name, path=path, role=role, size_bytes=source.stat().st_size, sha256=sha256_of(source)
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def pack(target: Path, folder: Path, manifest: Manifest) -> None:
    """Write the archive; the manifest comes first, so that it can be read without unpacking the rest."""
    text = json.dumps(asdict(manifest), ensure_ascii=False, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for name in (MANIFEST, *(file.name for file in manifest.files)):
            archive.add(folder / name, arcname=name)


def unpack(source: Path, folder: Path) -> Manifest:
    """Unpack into an empty folder and check every file. Raises UnableToReadBackupError."""
    try:
        with tarfile.open(source, "r:gz") as archive:
            manifest = _read_manifest(archive, source)
            expected = {MANIFEST, *(file.name for file in manifest.files)}
            # Only flat files that the manifest names: an archive must not write elsewhere.
            for member in archive:
                if member.name not in expected or not member.isreg() or "/" in member.name:
                    raise UnableToReadBackupError(f"{source}: {member.name}: not named by the manifest")
                archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as fault:
        raise UnableToReadBackupError(f"{source}: can't be read as a backup: {fault}") from fault
    for file in manifest.files:
        path = folder / file.name
        if not path.is_file() or path.stat().st_size != file.size_bytes or sha256_of(path) != file.sha256:
            raise UnableToReadBackupError(f"{source}: {file.name}: damaged; its SHA-256 is not the manifest's")
    return manifest


def _read_manifest(archive: tarfile.TarFile, source: Path) -> Manifest:
    first = archive.next()
    content = archive.extractfile(first) if first is not None and first.name == MANIFEST else None
    if content is None:
        raise UnableToReadBackupError(f"{source}: expected a backup of dormpower, got another archive")
    try:
        fields = json.loads(content.read())
        if fields["format"] != FORMAT:
            raise UnableToReadBackupError(
                f"{source}: expected backup format {FORMAT}, got {fields['format']}; use a newer dormpower"
            )
        files = tuple(ArchivedFile(**file) for file in fields.pop("files"))
        _check_entries(files)
        return Manifest(files=files, not_included=tuple(fields.pop("not_included")), **fields)
    except (ValueError, KeyError, TypeError) as fault:
        raise UnableToReadBackupError(f"{source}: {MANIFEST}: not readable: {fault}") from fault


def _check_entries(files: tuple[ArchivedFile, ...]) -> None:
    """Refuse entries that `pack` never writes: a name that leads elsewhere, a role twice. ValueError."""
    for file in files:
        if file.name in ("", ".", "..", MANIFEST) or "/" in file.name or "\0" in file.name:
            raise ValueError(f"expected the plain name of a file, got {file.name!r}")
        if file.role not in ROLES:
            raise ValueError(f"{file.name}: expected a role of {', '.join(sorted(ROLES))}, got {file.role!r}")
        if not isinstance(file.path, str) or "\0" in file.path:
            raise ValueError(f"{file.name}: expected a path, got {file.path!r}")
    for values in ([file.name for file in files], [file.role for file in files]):
        if len(set(values)) != len(values):
            raise ValueError(f"expected each name and each role once, got {', '.join(values)}")
