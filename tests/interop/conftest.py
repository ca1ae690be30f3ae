"""Fixtures of the tests with other people's programs: the same as end to end."""

from e2e.conftest import connect, start_access

__all__ = ["connect", "start_access"]
