"""Texts as token ids, for ``preprocess``. Needs tokenizers: the extra ``steps``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torch_predict.errors import InvalidInput

try:
    from tokenizers import Tokenizer
except ModuleNotFoundError as error:  # said when the folder is loaded, not with the first request
    raise ModuleNotFoundError("tokenizers is not installed: pip install 'dl-inference[steps]'") from error

MAX_CHARS = 1_000_000
"""Of all texts of a request: about a second of work."""
_PADDING = ("[PAD]", "<pad>", "<|endoftext|>")


def tokenizer(file: str | Path, max_length: int = 512, *, is_fixed: bool = False) -> Tokenizer:
    """Return the tokenizer of a ``tokenizer.json``, for `tokenise`. Load it once, when processor.py is imported.

    Args:
        file: as Hugging Face's libraries save it; a relative path is in the folder of the model's version.
        max_length: most tokens of a text; what is beyond is cut off.
        is_fixed: pad all texts to max_length, and not to the longest text of the request.

    Raises:
        ValueError: the file is missing or is no tokenizer, or max_length has no place for what the tokenizer adds.
    """
    try:
        made = Tokenizer.from_file(str(file))
        made.enable_truncation(max_length)
    except Exception as error:  # a plain Exception in all cases
        raise ValueError(f"{file}: {error}") from error
    known = made.padding or {}
    token = known.get("pad_token") or next((each for each in _PADDING if made.token_to_id(each) is not None), "")
    number = known.get("pad_id", made.token_to_id(token) or 0)
    side, length = known.get("direction", "right"), max_length if is_fixed else None
    made.enable_padding(direction=side, pad_id=number, pad_token=token, length=length)
    return made


def tokenise(by: Tokenizer, x: Any, *, max_chars: int = MAX_CHARS) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return ids of tokens and their mask: ``input_ids`` and ``attention_mask``, int64 [texts, tokens].

    Args:
        by: of `tokenizer`.
        x: what the request holds: a text, a list of texts, or an array of texts (BYTES of OIP, ``ndarray``).
        max_chars: most characters of all texts, a million.

    Raises:
        InvalidInput: it holds something else, no text, text that is not UTF-8, or too many characters.
    """
    texts = _texts(x)
    count = sum(map(len, texts))
    if count > max_chars:
        raise InvalidInput(f"the texts have {count} characters; at most {max_chars} are read: send fewer at once")
    encoded = by.encode_batch(texts)
    return {
        "input_ids": np.array([each.ids for each in encoded], np.int64),
        "attention_mask": np.array([each.attention_mask for each in encoded], np.int64),
    }


def _texts(x: Any) -> list[str]:
    values: Sequence[Any] = x.reshape(-1).tolist() if isinstance(x, np.ndarray) else [x] if isinstance(x, str) else x
    if not isinstance(values, list) or not values:
        raise InvalidInput(f"send a text, or a list or an array of texts, not {_word(x)}")
    return [_text(index, value) for index, value in enumerate(values)]


def _text(index: int, value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"text {index} is not UTF-8") from None
    if not isinstance(value, str):
        raise InvalidInput(f"element {index} is a {type(value).__name__}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can hold
        raise InvalidInput(f"text {index} cannot be written as UTF-8") from None
    return value


def _word(x: Any) -> str:
    return "an empty one" if isinstance(x, list | np.ndarray) else type(x).__name__
