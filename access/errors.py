"""The exception tree of the access service, and what a problem in a user's file looks like."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in what the user gave.

    Attributes:
        place: where, for people: ``access.yaml:12 models.digits.protocol`` or ``environment DL_INFERENCE_LISTEN``.
        message: what is wrong, with the value.
        remedy: what to do about it; empty when the message says it already.
    """

    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the problem on one line."""
        return f"{self.place}: {self.message}" + (f" ({self.remedy})" if self.remedy else "")


class AccessError(Exception):
    """Whatever the access service raises on the control path."""


class ConfigError(AccessError):
    """A configuration that cannot be used; holds every problem found, not the first one only."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class DiscoveryError(AccessError):
    """A source of endpoints that cannot be read as a whole; its last good state stays."""


class StartError(AccessError):
    """The data plane could not start or refused the first state."""
