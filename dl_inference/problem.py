"""What is wrong in something that a user gave: one form of it for every program and command."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in what the user gave.

    Attributes:
        place: where, for people: ``access.yaml:12 models.digits.protocol``, a path, or
            ``environment DL_INFERENCE_LISTEN``.
        message: what is wrong, with the value.
        remedy: what to do about it; empty when the message says it already.
    """

    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the problem on one line, for a terminal or a log."""
        return f"{self.place}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")
