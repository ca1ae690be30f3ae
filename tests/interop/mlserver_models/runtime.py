"""Runs under `mlserver start`: two models, one that answers what it gets and one that computes."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
from mlserver import MLModel
from mlserver.codecs import decode_args
from mlserver.errors import InferenceError
from mlserver.grpc import dataplane_pb2
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from dl_inference import messages


class Echo(MLModel):
    """Outputs are the inputs; the parameter ``fail`` asks for an error, or for none in time."""

    async def load(self) -> bool:
        """Be ready if our messages, imported after MLServer's, read theirs."""
        theirs = dataplane_pb2.ModelInferRequest(model_name="echo").SerializeToString()
        return messages.ModelInferRequest.FromString(theirs).model_name == "echo"

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        fail = getattr(payload.parameters, "fail", None)
        if fail == "slow":
            await asyncio.Event().wait()  # until the caller's deadline
        if fail == "inference":
            raise InferenceError("the input does not do")
        if fail is not None:
            raise ValueError(fail)
        outputs = [
            ResponseOutput(name=each.name, shape=each.shape, datatype=each.datatype, data=each.data)
            for each in payload.inputs
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, id=payload.id, outputs=outputs)

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        async for payload in payloads:
            yield await self.predict(payload)


class Double(MLModel):
    @decode_args
    async def predict(self, x: np.ndarray) -> np.ndarray:
        return x * 2
