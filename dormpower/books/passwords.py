"""Passwords and secrets: argon2 for what people choose, SHA-256 for what we draw.

A password is guessable, so its hash must be slow (argon2id, pwdlib's recommended parameters). Session secrets
and bearer tokens have 256 random bits: a plain SHA-256 is enough to keep a stolen copy of the books useless.
"""

import hashlib
import secrets
from functools import cache

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError

MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_LENGTH = 256
SECRET_BYTES = 32


class UnableToUsePasswordError(Exception):
    """The password is too short or too long to be accepted."""


@cache
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()


@cache
def _decoy() -> str:
    """A hash nobody knows the password of: what is verified for a user that does not exist."""
    return _hasher().hash(secrets.token_urlsafe(SECRET_BYTES))


def hash_password(password: str) -> str:
    """Return the argon2 hash of a new password. Raises UnableToUsePasswordError outside 8 to 256 characters."""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise UnableToUsePasswordError(
            f"password: expected {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters, got {len(password)}"
        )
    return _hasher().hash(password)


def password_matches(*, password: str, password_hash: str | None) -> bool:
    """Tell whether a password belongs to a hash, taking as long where there is no hash at all."""
    if password_hash is None:
        _hasher().verify(password, _decoy())
        return False
    try:
        return _hasher().verify(password, password_hash)
    except UnknownHashError:
        return False


def new_secret() -> str:
    """Draw a secret of 256 random bits, safe in headers and cookies."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest(secret: str) -> str:
    """Return the SHA-256 under which a secret is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
