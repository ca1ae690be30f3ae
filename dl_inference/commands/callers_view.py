"""What `dl-inference callers` prints of a document."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from access.callers.schema import ANONYMOUS, Allowed, Caller, CallersConfig, Key, Rule, Secret


def table(config: CallersConfig, now: datetime) -> Table:
    """Return the effective table: a row for each rule of each caller."""
    view = Table(box=box.SIMPLE, header_style="bold")
    for column in ("caller", "credentials", "priority", "models", "versions", "methods"):
        view.add_column(column)
    for name, caller in config.callers.items():
        _add(view, name, ", ".join(_credentials(caller, now)) or "none", caller)
    if config.anonymous is not None:
        _add(view, ANONYMOUS, "no credential", config.anonymous)
    return view


def of_rule(rule: Rule) -> str:
    """Return a rule in words."""
    versions = "" if rule.versions is None else f", versions {', '.join(rule.versions) or 'none'}"
    return f"{', '.join(rule.methods)} of {', '.join(rule.models)}{versions}"


def _add(view: Table, name: str, credentials: str, caller: Allowed) -> None:
    first = (name, credentials, caller.priority or "as asked")
    if not caller.allow:
        view.add_row(*map(Text, (*first, "nothing", "", "")))
    for number, rule in enumerate(caller.allow):
        versions = "any" if rule.versions is None else ", ".join(rule.versions)
        cells = (", ".join(rule.models), versions, ", ".join(rule.methods))
        view.add_row(*map(Text, (*(first if number == 0 else ("", "", "")), *cells)))


def _credentials(caller: Caller, now: datetime) -> Iterator[str]:
    for key in caller.keys:
        yield f"key {key.id}{_expiry(key, now)}"
    for secret in caller.signing:
        yield f"secret {secret.id}{_expiry(secret, now)}"
    for token in caller.tokens:
        yield f"tokens of {token.issuer}"
    for certificate in caller.certificates:
        yield f"certificate {certificate}"


def _expiry(key: Key | Secret, now: datetime) -> str:
    if key.expires is None:
        return ""
    return f" {'EXPIRED' if key.expires <= now else 'until'} {key.expires:%Y-%m-%d %H:%M %Z}"
