"""A Seldon server on grpc.aio with uvloop, in .peers/aio-torch: ``python aio.py ADDRESS``, the folder in MODEL_FOLDER.

No batching: a call is answered where it is read, on the one thread that Python has for both.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop
from bench.model_peers.hooks import Model

from dl_inference.messages import SeldonMessage


async def main(address: str) -> None:
    """Serve until killed."""
    model = Model(Path(os.environ["MODEL_FOLDER"]))

    async def predict(request: Any, context: Any) -> Any:
        tensor = request.data.tensor
        answer = model.one(np.array(tensor.values).reshape(tensor.shape))
        message: Any = SeldonMessage()
        message.data.tensor.shape.extend(answer.shape)
        message.data.tensor.values.extend(answer.ravel().tolist())
        return message

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    method = grpc.unary_unary_rpc_method_handler(predict, SeldonMessage.FromString, SeldonMessage.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("seldon.protos.Model", {"Predict": method}),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1]))
