"""Whose fault it is when a model raises: what torch's own operators say of the tensors that they got.

A program that knows its shapes is asked before it is called (signature.py). Of any other model an operator is the first
to know that a tensor does not fit, and its words hold shapes and types only. What the model's own code raises is a
fault of the model, and what memory or a device fails with one of the server.
"""

from __future__ import annotations

import dis
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

_TORCH = str(Path(torch.__file__).parent)
_OPERATOR_ERRORS = (RuntimeError, IndexError, ValueError, TypeError, AssertionError)
_SERVER_ERRORS = tuple(
    getattr(torch, name) for name in ("OutOfMemoryError", "AcceleratorError") if hasattr(torch, name)
)
_SERVER_WORDS = re.compile(r"\b(cuda\w*|cudnn\w*|cublas\w*|device|memory|alloc\w*|internal assert)\b", re.IGNORECASE)
_SCRIPT = "TorchScript interpreter"
_SCRIPT_LINE = re.compile(r"^RuntimeError: (?!AssertionError)(.+)", re.MULTILINE)
"""The last line of a script's own traceback; what the script itself raised is called ``builtins.ValueError`` ..."""
_MAX_WORDS = 300


def operator_words(error: BaseException, *, is_open: bool = False) -> str | None:
    """Return what an operator of torch said of its tensors; None where the exception is anything else.

    Args:
        error: what the model raised.
        is_open: whether it takes dicts or lists of tensors, in which it may look for what the caller has not sent.
    """
    if is_open and isinstance(error, KeyError | IndexError) and not _is_raised(error):
        return f"{type(error).__name__}: {error}"[:_MAX_WORDS]
    if not isinstance(error, _OPERATOR_ERRORS) or isinstance(error, _SERVER_ERRORS):
        return None
    text = str(error)
    if _SCRIPT in text:
        lines = _SCRIPT_LINE.findall(text)
        text = lines[-1] if lines else ""
    elif not _is_from_operator(error):
        return None
    text = text.strip().partition("\n")[0][:_MAX_WORDS]
    return None if not text or _SERVER_WORDS.search(text) else text


def place_of(error: BaseException) -> tuple[object, ...]:
    """Return where and what an exception is, the same for each of a kind: its values differ with every call."""
    last = _last(error)
    where = (last.tb_frame.f_code.co_filename, last.tb_lineno) if last is not None else ()
    return type(error), where


def described(values: Mapping[str, Any]) -> str:
    """Return names, types and shapes of tensors, for an error's text."""
    found = [f"{name[:64]!r} {_type(value)}" for name, value in list(values.items())[:32]]
    return ", ".join(found) or "no inputs"


def _type(value: Any) -> str:
    if not hasattr(value, "shape"):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _is_from_operator(error: BaseException) -> bool:
    last = _last(error)
    if last is None:
        return False
    if last.tb_frame.f_code.co_filename.startswith(_TORCH):
        return True
    return not _is_raised(error) and (type(error) is RuntimeError or "dimension" in str(error))


def _is_raised(error: BaseException) -> bool:
    """Say whether it comes from a `raise` or `assert` of the model's own code: its words are for the log only."""
    last = _last(error)
    return last is not None and any(
        each.offset == last.tb_lasti and each.opname == "RAISE_VARARGS"
        for each in dis.get_instructions(last.tb_frame.f_code)
    )


def _last(error: BaseException) -> TracebackType | None:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last
