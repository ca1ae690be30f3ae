"""What a careful user of FastAPI writes, in .peers/fastapi: ``python fastapi_server.py HOST PORT FOLDER``."""

from __future__ import annotations

import base64
import binascii
import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from bench.model_peers.hooks import Model
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

app = FastAPI()
model = Model(Path(sys.argv[3]))


class Tensor(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Inference(BaseModel):
    """A request, and its answer."""

    inputs: list[Tensor] = []
    outputs: list[Tensor] = []


@app.post("/v2/models/m/infer")
async def infer(request: Inference) -> Inference:
    """Answer rows of numbers, or one image in base64."""
    (given,) = request.inputs
    if given.datatype == "BYTES":
        try:
            image = base64.b64decode(given.data[0], validate=True)
        except binascii.Error as error:
            raise HTTPException(400, str(error)) from error
        x = np.frombuffer(image, np.uint8)
    else:
        x = np.array(given.data).reshape(given.shape)
    y = model.one(x)
    found = Tensor(name="output", shape=list(y.shape), datatype="FP64", data=y.ravel().tolist())
    return Inference(outputs=[found])


@app.post("/binary")
async def binary(request: Request) -> Response:
    """Answer rows of float32 as they are in memory."""
    x = np.frombuffer(await request.body(), np.float32).reshape(-1, 64)
    return Response(model.one(x).tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(app, host=sys.argv[1], port=int(sys.argv[2]), log_level="warning", access_log=False)
