"""The PyTorch model server.

A hook may raise `InvalidInput` or `Error`; their text is the only one that reaches the caller. It may ask for the
`request` that it answers and for the `settings` of its model, and count what it likes.
"""

from dl_inference.code import Code
from torch_predict.context import cancelled, request, settings
from torch_predict.errors import Error, InvalidInput
from torch_predict.marks import batched, joined
from torch_predict.methods import method
from torch_predict.metrics import counter, gauge, histogram

__all__ = [
    "Code",
    "Error",
    "InvalidInput",
    "batched",
    "cancelled",
    "counter",
    "gauge",
    "histogram",
    "joined",
    "method",
    "request",
    "settings",
]
