"""`dormpower serve`: a real site, refused while it is unsafe, then supervised."""

import ipaddress

import structlog
import typer

from config.settings import Settings, load
from dormpower.books import migration
from dormpower.books.database import Books, open_books, wait_until_reachable
from dormpower.books.sites import sync_site
from dormpower.books.users import demo_usernames
from dormpower.commands.broker_probe import BrokerAnswer, ask_anonymously
from dormpower.commands.opening import ConfigOption, campus_now
from dormpower.commands.processes import process_arguments
from dormpower.commands.supervisor import Child, Supervisor

_DATABASE_TIMEOUT_S = 60.0
_log = structlog.get_logger()


class UnableToServeError(Exception):
    """The site must not be served as it is; the message holds every reason and its remedy."""


def serve(config: ConfigOption = None) -> None:
    """Run the gateway and the API of a real site, supervised: migrates, syncs, restarts what crashes."""
    settings = load(config)
    refuse(unsafe_settings(settings))
    books = open_books(settings.database, base=settings.folder)
    try:
        wait_until_reachable(books, timeout_s=_DATABASE_TIMEOUT_S)
        migration.upgrade(books)
        refuse(unsafe_users(books))
        now, today = campus_now(settings)
        report = sync_site(books=books, site=settings.site, now=now, today=today)
        _log.info("site.synced", **report.counts())
    finally:
        books.close()
    for warning in settings.warnings:
        _log.warning("site.warning", text=str(warning))
    children = [
        Child(name=package, arguments=process_arguments(package, str(settings.path)))
        for package in ("gateway", "api")
    ]
    raise typer.Exit(Supervisor(children).run())


def refuse(reasons: list[str]) -> None:
    """Raise UnableToServeError where there is a reason."""
    if reasons:
        raise UnableToServeError("\n".join(f"serve refused: {reason}" for reason in reasons))


def unsafe_settings(settings: Settings) -> list[str]:
    """Return why a site must not be served, before anything is opened or changed."""
    reasons = []
    mqtt = settings.mqtt
    if mqtt is not None and mqtt.username is None:
        reasons.append(
            "mqtt.username: expected the gateway's user name, got nothing; "
            "give the broker credentials and name them (deploy/mosquitto.conf shows how)"
        )
    elif mqtt is not None and ask_anonymously(mqtt) is BrokerAnswer.ACCEPTED:
        reasons.append(
            f"mqtt.url: the broker at {mqtt.url} lets in clients without credentials; "
            "set allow_anonymous false (deploy/mosquitto.conf shows how)"
        )
    api = settings.api
    if not is_loopback(api.host) and api.tls_certificate_file is None and not api.trusted_proxies:
        reasons.append(
            f"api.host: {api.host} is reachable from other machines without TLS; set tls_certificate_file and "
            "tls_key_file, or trusted_proxies with the proxy that ends TLS, or listen on 127.0.0.1"
        )
    return reasons


def unsafe_users(books: Books) -> list[str]:
    """Return why the users in the books must not be served."""
    with books.read() as connection:
        demo = demo_usernames(connection)
    if not demo:
        return []
    reason = (
        f"the books hold the demo users {', '.join(demo)}, whose password is public; "
        "use other books, or disable them: dormpower user disable NAME"
    )
    return [reason]


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on stays within the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
