"""What keeps a model from being loaded, whatever serves it: it ends the start, and names place and remedy."""

from __future__ import annotations

from dl_inference.problem import Problem


class LoadError(Exception):
    """A model, or code that belongs to it, that could not be loaded."""

    def __init__(self, place: object, message: str, remedy: str) -> None:
        self.problem = Problem(str(place), message, remedy)
        super().__init__(str(self.problem))
