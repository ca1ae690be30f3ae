"""The exception tree of the access service."""

from collections.abc import Sequence

from dl_inference.problem import Problem


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
