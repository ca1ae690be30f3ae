"""The PyTorch model server.

A hook may raise `InvalidInput` or `Error`; their text is the only one that reaches the caller.
"""

from dl_inference.code import Code
from torch_predict.errors import Error, InvalidInput
from torch_predict.marks import batched, joined

__all__ = ["Code", "Error", "InvalidInput", "batched", "joined"]
