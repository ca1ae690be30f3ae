"""The document of callers: every key, default and unit, once."""

import contextlib
import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from access.config.sections import CallLimits
from access.fields import FrozenList, Name, Section, problem
from dl_inference.serving.limits import Priority

ANONYMOUS = "anonymous"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Method = Literal["predict", "metadata", "admin"]


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise problem(
            f"{text!r} is not a name of a caller or a key",
            "use letters, digits, '.', '_' and '-', at most 64, a letter or digit first",
        )
    return text


def _callers_name(text: str) -> str:
    if text == ANONYMOUS:
        raise problem(f"{ANONYMOUS} is who shows no credential", f"give the caller another name, or use `{ANONYMOUS}:`")
    return _name(text)


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise problem(
            f"{text[:8]!r}... is no SHA-256 of a key", "64 hexadecimal digits; `dl-inference callers add` makes keys"
        )
    return text.lower()


def moment(value: Any) -> Any:
    """Take a day for its first moment, and a time without a zone for one of UTC."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.combine(value, time(), UTC) if isinstance(value, date) else value


def _version(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


Text = Annotated[str, Field(min_length=1, max_length=256)]
KeyId = Annotated[str, AfterValidator(_name)]
Moment = Annotated[datetime, BeforeValidator(moment)]


class Key(Section):
    """One key of a caller. The key itself is nowhere: it is shown once, when it is made."""

    id: KeyId = Field(description="what the key is called in the log and by `callers revoke`")
    sha256: Annotated[str, AfterValidator(_sha256)] = Field(description="SHA-256 of the key, in hexadecimal digits")
    expires: Moment | None = Field(
        None, description="from when on it is no key any more, `2027-01-31T00:00:00Z` or `2027-01-31`; null: never"
    )


class Secret(Section):
    """One secret by which a caller signs its requests."""

    id: KeyId = Field(description="what the secret is called in `x-signature`, in the log too; no other has it")
    secret_file: Text = Field(
        description="file that has it, 32 bytes or more; a relative path begins at this document's folder"
    )
    expires: Moment | None = Field(None, description="from when on nothing is signed by it any more; null: never")


class Token(Section):
    """Whose tokens a caller's are: those of one subject, or those that have all of some claims."""

    issuer: Text = Field(description="one of `jwt`")
    subject: Text | None = Field(None, description="the claim `sub`")
    claims: dict[Text, Text] = Field({}, description="claim -> text that it is, or that is in its list")

    @model_validator(mode="after")
    def _says_whose(self) -> Self:
        if (self.subject is None) == (not self.claims):
            raise problem("says not whose tokens, or says it twice", "give subject or claims")
        return self


class Issuer(Section):
    """Who may give out tokens (JWT, signed by RS256, ES256 or EdDSA)."""

    issuer: Text = Field(description="the claim `iss`")
    audience: Text = Field(description="what the claim `aud` must be, or have in its list")
    jwks: Text = Field(
        description="file with the issuer's public keys (JWKS), followed live; a relative path begins at this "
        "document's folder"
    )


class CallerLimits(CallLimits):
    """How much a caller may ask for, of all models together and of single ones."""

    models: dict[Name, CallLimits] = Field({}, description="model -> how much the caller may ask of it")


class Rule(Section):
    """What is allowed: each of the methods, on each of the models."""

    models: Annotated[tuple[Text, ...], FrozenList, Field(min_length=1)] = Field(
        description='names of models; `*` stands for any text: `"rank*"`'
    )
    versions: Annotated[tuple[Annotated[Text, BeforeValidator(_version)], ...], FrozenList] | None = Field(
        None,
        description="versions and labels that a call may ask for, and then it has to ask for one; null: any, and none",
    )
    methods: Annotated[tuple[Method, ...], FrozenList, Field(min_length=1)] = Field(
        ("predict", "metadata"),
        description="`predict`, `metadata` (what a model is, whether it is ready) and `admin` (load, unload, settings)",
    )


Rules = Annotated[tuple[Rule, ...], FrozenList]


class Allowed(Section):
    """What somebody may do."""

    allow: Rules = Field((), description="what may be called; nothing else may")
    priority: Priority | None = Field(
        None,
        description="`high`, `normal` or `low`: how much the calls matter at most; a caller may send a lower one as "
        "`x-priority`. null: what callers send holds",
    )


class Anonymous(Allowed):
    """Who shows no credential."""


class Caller(Allowed):
    """One caller."""

    keys: Annotated[tuple[Key, ...], FrozenList] = Field((), description="its keys; several while one replaces another")
    signing: Annotated[tuple[Secret, ...], FrozenList] = Field(
        (), description="its secrets for [signed requests](signing.md)"
    )
    tokens: Annotated[tuple[Token, ...], FrozenList] = Field((), description="which tokens of `jwt` are its own")
    limits: CallerLimits | None = Field(None, description="[limits](call-limits.md) of the caller; null: none")
    certificates: Annotated[tuple[Text, ...], FrozenList] = Field(
        (),
        description="names that its client certificate has (SAN): `client.example`, `spiffe://example/ranking`; any of "
        "them is enough",
    )


class CallersConfig(Section):
    """The whole file."""

    callers: dict[Annotated[str, AfterValidator(_callers_name)], Caller] = Field({}, description="name -> caller")
    jwt: Annotated[tuple[Issuer, ...], FrozenList] = Field((), description="who may give out tokens")
    anonymous: Anonymous | None = Field(
        None, description="what calls without a credential may do; null: they are refused"
    )
