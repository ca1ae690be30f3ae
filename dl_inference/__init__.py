"""dl-inference: one gRPC address for every model. This package exports the client; importing it loads nothing else."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dl_inference.client import (
        Aborted,
        AlreadyExists,
        Answer,
        AsyncClient,
        BadAnswer,
        BadTensorError,
        CallError,
        Cancelled,
        Client,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        InputError,
        Internal,
        InvalidArgument,
        ModelMetadata,
        NotFound,
        OutOfRange,
        PermissionDenied,
        Prediction,
        Reply,
        ResourceExhausted,
        Retries,
        Signature,
        Signer,
        TensorSpec,
        Unauthenticated,
        Unavailable,
        Unimplemented,
        Unknown,
    )

__all__ = [
    "Aborted", "AlreadyExists", "Answer", "AsyncClient", "BadAnswer", "BadTensorError", "CallError", "Cancelled",
    "Client", "DataLoss", "DeadlineExceeded", "FailedPrecondition", "InputError", "Internal", "InvalidArgument",
    "ModelMetadata", "NotFound", "OutOfRange", "PermissionDenied", "Prediction", "Reply", "ResourceExhausted",
    "Retries", "Signature", "Signer", "TensorSpec", "Unauthenticated", "Unavailable", "Unimplemented", "Unknown",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load the client when it is first asked for: the command line and the servers import this package, too."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("dl_inference.client"), name)
