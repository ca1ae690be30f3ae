"""How far a model server has come with a version, and what it found: told to `serve` in a small file.

A file, because it also speaks for a process that hangs, is killed, or ends without a word. It lies beside the process's
socket, in a folder that only `serve`'s user may enter.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from dl_inference.serving.load_error import LoadError
from dl_inference.serving.room import NoRoomError
from dl_inference.serving.settings import ModelFolderError

Step = Literal["find", "signature", "manifest", "load", "warm-up", "golden", "compare"]
"""What a version goes through before calls get to it, in this order."""

FINAL: frozenset[Step] = frozenset({"find", "signature", "manifest", "golden", "compare"})
"""Steps whose faults are the folder's: they would fail again while its files stay. Loading and warming up may have
failed for want of memory, of a package or of the network."""

_LOGGER = logging.getLogger(__name__)


class Spec(Protocol):
    """An input or an output; `torch_predict.signature.TensorSpec`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...] | None: ...  # noqa: D102


class Tensor(BaseModel):
    """An input or an output.

    Attributes:
        name: what callers, or people, call it.
        dtype: its type.
        shape: -1 is a size that varies; None: any number of axes.
        is_optional: whether callers may leave it out.
        way: the way to call the model that it is of, where there are several: a signature of TensorFlow's.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    is_optional: bool = False
    way: str = ""


class Report(BaseModel):
    """What a process has told.

    Attributes:
        step: the last one that it began.
        reason: why that one failed; empty where it did not, or had no time to say.
        remedy: what to do about it.
        is_final: whether it would fail again with the same files.
        inputs, outputs: what callers may know of the model; empty where nothing is known.
        learned: of both sides, a digest of the samples that showed it; "" where the model itself tells.
        nan: of each sample without an expected answer, by its digest: the outputs that hold NaN or infinity.
        is_complete: whether this is all that it found; on a full disk it cannot say.
    """

    model_config = ConfigDict(frozen=True)

    step: Step = "load"
    reason: str = ""
    remedy: str = ""
    is_final: bool = False
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    learned: tuple[str, str] = ("", "")
    nan: dict[str, tuple[str, ...]] = {}
    is_complete: bool = False


def read(file: Path) -> Report:
    """Return what a process has told; that it loads, where it has told nothing that can be read."""
    try:
        return Report.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return Report()


def new_file(file: Path) -> Path:
    """Return where the file is written before it is put into its place."""
    return file.with_name(f"{file.name}.new")


class Reporter:
    """The process's side. What cannot be written, on a full disk, is left out: it keeps nobody from being served.

    Args:
        file: where to; None: nobody asks.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._is_mute = False
        self._report = Report(step="find")
        self._write()

    def at(self, step: Step) -> None:
        """Say that a step begins."""
        self._tell(step=step)

    def failed(self, error: Exception) -> None:
        """Say why the step failed."""
        if isinstance(error, LoadError):
            problems = [error.problem]
        else:
            problems = error.problems if isinstance(error, ModelFolderError) else []
        if len(problems) == 1:
            (problem,) = problems
            reason, remedy = f"{problem.place}: {problem.message}", problem.remedy
        else:
            reason, remedy = str(error), ""
        is_final = bool(problems) and self._report.step in FINAL and not isinstance(error, NoRoomError)
        self._tell(reason=reason, remedy=remedy, is_final=is_final)

    def found(
        self,
        inputs: Iterable[Spec],
        outputs: Iterable[Spec],
        *,
        optional: Iterable[str] = (),
        learned: tuple[str, str] = ("", ""),
        nan: Mapping[str, tuple[str, ...]],
    ) -> None:
        """Say what the model takes and gives, and which samples' answers hold NaN."""
        may_miss = set(optional)
        self._tell(
            inputs=tuple(_tensor(each, is_optional=each.name in may_miss) for each in inputs),
            outputs=tuple(map(_tensor, outputs)),
            learned=learned,
            nan=dict(nan),
            is_complete=True,
        )

    def _tell(self, **news: object) -> None:
        self._report = self._report.model_copy(update=news)
        self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        new = new_file(self._file)
        try:
            new.write_text(self._report.model_dump_json(), encoding="utf-8")
            os.replace(new, self._file)
        except OSError as error:
            if not self._is_mute:
                _LOGGER.warning("what this process does cannot be told: %s", error)
            self._is_mute = True


def _tensor(spec: Spec, *, is_optional: bool = False) -> Tensor:
    if isinstance(spec, Tensor):
        return spec.model_copy(update={"is_optional": spec.is_optional or is_optional})
    return Tensor(name=spec.name, dtype=spec.dtype, shape=spec.shape, is_optional=is_optional)
