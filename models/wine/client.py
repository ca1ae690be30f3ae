"""Send rows of measurements to the wine model with plain grpcio.

    python models/wine/client.py 127.0.0.1:8500 models/wine/samples/class_*

A file holds rows of 13 numbers: .npy, or a list of lists as .json. The address is the access service's, or one model
server's; the tag `model` tells the access service where to go.
"""

import json
import sys
from pathlib import Path

import grpc
import numpy as np

from dl_inference.messages import SeldonMessage


def rows(file: Path) -> np.ndarray:
    """Return a file's rows: float64 [n, 13]."""
    found = np.load(file) if file.suffix == ".npy" else json.loads(file.read_text())
    return np.asarray(found, dtype=np.float64)


def main(address: str, *files: str) -> None:
    """Print class and score of each row."""
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )
        for file in files:
            x = rows(Path(file))
            request = SeldonMessage()
            request.meta.tags["model"].string_value = "wine"
            request.data.tensor.shape.extend(x.shape)
            request.data.tensor.values.extend(x.ravel())
            data = predict(request, timeout=10).data
            scores = np.array(data.tensor.values).reshape(data.tensor.shape)
            answers = [f"{data.names[row.argmax()]} ({row.max():.3f})" for row in scores]
            print(f"{file}: {', '.join(answers)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
