"""Hooks of the snippets model: texts of any length in, the language of each out.

Tags of the request: `top_k` says how many languages an answer names (1), `threshold` below which score it is
"unknown" instead (0).
"""

import numpy as np
import torch
from windows import NAMES, windows

import torch_predict

MAX_TEXTS = 64
MAX_BYTES = 65_536  # of all texts of a request: at 256 a window, what the model does at once stays below 100 MB
UNKNOWN = "unknown"


def preprocess(x, **kwargs):
    """Make a list of texts of one text or many: str, or UTF-8 as OIP's BYTES and binData bring it; check the tags."""
    options(**kwargs)  # before the model works for nothing
    texts = as_texts(x)
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise torch_predict.InvalidInput(f"{len(texts)} texts; send 1 to {MAX_TEXTS} in a request")
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_BYTES:
        raise torch_predict.InvalidInput(f"the texts have {size} bytes; at most {MAX_BYTES} in a request, so cut them")
    for place, text in enumerate(texts):
        if not text.strip():
            raise torch_predict.InvalidInput(f"text {place} is empty; leave it out")
    return texts


def as_texts(x):
    """Return the texts of a request, NUL (the model's padding) replaced by a space."""
    if isinstance(x, np.ndarray):
        x = x.tolist()
    texts = x if isinstance(x, list) else [x]
    return [as_text(text, place).replace("\0", " ") for place, text in enumerate(texts)]


def as_text(x, place):
    """Return one text of a request."""
    if isinstance(x, bytes):
        try:
            return x.decode()
        except UnicodeDecodeError as error:
            raise torch_predict.InvalidInput(f"byte {error.start} of text {place} is not UTF-8; send UTF-8") from None
    if not isinstance(x, str):
        raise torch_predict.InvalidInput("send a text (strData, binData) or a list of texts (data.ndarray, jsonData)")
    return x


def run_model(model, x, **kwargs):
    """Call the model once for all windows of all texts; return float32 [texts, languages], scores that sum to 1.

    A text's logits are the mean of its windows'. `model(x)` could not do that: it knows windows, not texts.
    """
    batch, owners = windows(x)
    device = next(model.parameters()).device
    logits = model(batch.to(device)).cpu()
    count = torch.bincount(owners, minlength=len(x)).unsqueeze(1)
    return (torch.zeros(len(x), logits.shape[1]).index_add_(0, owners, logits) / count).softmax(1)


def postprocess(x, **kwargs):
    """Name the best language of each text, and the best `top_k` with their scores."""
    top_k, threshold = options(**kwargs)
    return {"predictions": [prediction(scores, top_k, threshold) for scores in x.tolist()]}


def prediction(scores, top_k, threshold):
    """Return one text's answer."""
    top = sorted(zip(scores, NAMES, strict=True), reverse=True)[:top_k]
    score, name = top[0]
    return {
        "class": name if score >= threshold else UNKNOWN,
        "score": score,
        "top": [{"class": name, "score": score} for score, name in top],
    }


def options(meta=None):
    """Return (top_k, threshold) of a request's tags; other tags, such as the route key, are not ours."""
    tags = (meta or {}).get("tags", {})
    top_k = number(tags, "top_k", 1, 1, len(NAMES))
    if top_k != int(top_k):
        raise torch_predict.InvalidInput(f"tag top_k is {top_k:g}; send a whole number of 1 to {len(NAMES)}")
    return int(top_k), number(tags, "threshold", 0, 0, 1)


def number(tags, name, default, least, most):
    """Return a tag that is a number between two bounds."""
    value = tags.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        shown = f"{value:g}" if isinstance(value, float) else repr(value)[:40]  # numbers in tags are floats
        raise torch_predict.InvalidInput(
            f"tag {name} is {shown}; send a number of {least} to {most}, or leave it out for {default}"
        )
    return value
