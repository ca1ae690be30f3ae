"""The clients: numpy in, numpy out, over TF Serving's, Seldon's and the Open Inference Protocol.

They are for an access service as well as for a server of one of the protocols. `Client` is for threads, `AsyncClient`
for asyncio. Needs numpy, grpcio and protobuf; loads no server and no command.
"""

from dl_inference.client.aio import AsyncClient
from dl_inference.client.blocking import Client
from dl_inference.client.errors import (
    Aborted,
    AlreadyExists,
    BadAnswer,
    CallError,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from dl_inference.client.prediction import Answer, Prediction, Reply
from dl_inference.client.retries import Retries
from dl_inference.client.signing import Signer
from dl_inference.codec.errors import BadTensorError, InputError
from dl_inference.codec.oip import ModelMetadata
from dl_inference.codec.tfs import Signature, TensorSpec

__all__ = [
    "Aborted", "AlreadyExists", "Answer", "AsyncClient", "BadAnswer", "BadTensorError", "CallError", "Cancelled",
    "Client", "DataLoss", "DeadlineExceeded", "FailedPrecondition", "InputError", "Internal", "InvalidArgument",
    "ModelMetadata", "NotFound", "OutOfRange", "PermissionDenied", "Prediction", "Reply", "ResourceExhausted",
    "Retries", "Signature", "Signer", "TensorSpec", "Unauthenticated", "Unavailable", "Unimplemented", "Unknown",
]  # fmt: skip
