"""Users, sessions, tokens and origins in the books."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import users
from dormpower.books.passwords import (
    UnableToUsePasswordError,
    hash_password,
    new_secret,
    password_matches,
)
from dormpower.books.tables import sessions, sign_in_origins, tokens

NOW = datetime(2026, 5, 20, tzinfo=UTC)


def add(books, username="li", role=users.Role.STUDENT, **extra):
    with books.write() as connection:
        return users.add_user(connection, username=username, role=role, password_hash=None, now=NOW, **extra)


def test_a_name_is_given_once(books):
    add(books)
    with pytest.raises(users.UnableToAddUserError, match="li exists already"):
        add(books)


@pytest.mark.parametrize("name", ["", " li", "li\n", "x" * 65])
def test_an_unusable_name_is_refused(sqlite_books, name):
    with pytest.raises(users.UnableToAddUserError, match="username"):
        add(sqlite_books, name)


def test_only_digests_of_secrets_are_kept(books):
    user_id = add(books)
    with books.write() as connection:
        opened = users.open_session(connection, user_id=user_id, now=NOW, lifetime=timedelta(hours=1))
        issued = users.issue_token(connection, user_id=user_id, days=1, now=NOW)
    with books.read() as connection:
        kept = str(connection.execute(sa.select(sessions)).all()) + str(
            connection.execute(sa.select(tokens)).all()
        )
    assert opened.secret not in kept
    assert issued.secret not in kept
    assert issued.token_id in kept


def test_a_secret_stands_for_its_user_until_it_expires(books):
    user_id = add(books)
    with books.write() as connection:
        opened = users.open_session(connection, user_id=user_id, now=NOW, lifetime=timedelta(hours=1))
        issued = users.issue_token(connection, user_id=user_id, days=1, now=NOW)
    with books.read() as connection:
        for at, session_is_good, token_is_good in (
            (NOW, True, True),
            (NOW + timedelta(hours=1), False, True),
            (NOW + timedelta(days=1), False, False),
        ):
            session = users.session_user(connection, secret=opened.secret, now=at)
            token = users.token_user(connection, secret=issued.secret, now=at)
            assert (session is not None, token is not None) == (session_is_good, token_is_good)
        assert users.token_user(connection, secret=opened.secret, now=NOW) is None
        assert users.session_user(connection, secret=issued.secret, now=NOW) is None


def test_opening_a_session_drops_the_expired_ones(books):
    user_id = add(books)
    with books.write() as connection:
        users.open_session(connection, user_id=user_id, now=NOW, lifetime=timedelta(hours=1))
        users.open_session(
            connection, user_id=user_id, now=NOW + timedelta(hours=2), lifetime=timedelta(hours=1)
        )
        assert connection.scalar(sa.select(sa.func.count()).select_from(sessions)) == 1


def test_disabling_ends_everything_at_once(books):
    user_id = add(books)
    with books.write() as connection:
        opened = users.open_session(connection, user_id=user_id, now=NOW, lifetime=timedelta(hours=1))
        issued = users.issue_token(connection, user_id=user_id, days=1, now=NOW)
        users.disable_user(connection, username="li", now=NOW)
        assert users.session_user(connection, secret=opened.secret, now=NOW) is None
        assert users.token_user(connection, secret=issued.secret, now=NOW) is None
        assert users.find_credentials(connection, username="li") is None
        with pytest.raises(users.UnableToFindUserError, match="li"):
            users.disable_user(connection, username="li", now=NOW)


def test_a_token_is_revoked_once(books):
    user_id = add(books)
    with books.write() as connection:
        issued = users.issue_token(connection, user_id=user_id, days=1, now=NOW)
        users.revoke_token(connection, token_id=issued.token_id, now=NOW)
        with pytest.raises(users.UnableToFindTokenError, match=issued.token_id):
            users.revoke_token(connection, token_id=issued.token_id, now=NOW)


def test_demo_users_are_told_until_they_are_disabled(books):
    add(books, "student", demo=True)
    add(books, "real")
    with books.write() as connection:
        assert users.demo_usernames(connection) == ["student"]
        users.disable_user(connection, username="student", now=NOW)
        assert users.demo_usernames(connection) == []


def test_the_latest_origins_are_remembered_as_digests(books):
    add(books)
    with books.write() as connection:
        user = users.find_user(connection, username="li")
        for number in range(25):
            users.remember_origins(
                connection,
                user=user,
                origins=[f"address:10.0.0.{number}"],
                now=NOW + timedelta(minutes=number),
            )
        asked = ["address:10.0.0.4", "address:10.0.0.5", "address:10.0.0.24"]
        assert sorted(users.knows_origin(connection, username="li", origins=asked)) == sorted(asked[1:])
        assert users.knows_origin(connection, username="wang", origins=asked) == []
        assert "10.0.0" not in str(connection.execute(sa.select(sign_in_origins)).all())


def test_a_password_is_hashed_slowly_and_compared_even_for_nobody():
    stored = hash_password("correct horse")
    assert stored.startswith("$argon2id$")
    assert password_matches(password="correct horse", password_hash=stored)
    assert not password_matches(password="wrong horse", password_hash=stored)
    assert not password_matches(password="correct horse", password_hash=None)
    assert not password_matches(password="correct horse", password_hash="not a hash")


@pytest.mark.parametrize("password", ["", "1234567", "x" * 257])
def test_a_password_has_a_bounded_length(password):
    with pytest.raises(UnableToUsePasswordError, match="8 to 256"):
        hash_password(password)


def test_secrets_differ_and_are_long():
    assert new_secret() != new_secret()
    assert len(new_secret()) >= 43
