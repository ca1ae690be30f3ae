"""Send measured cells (CSV: a line of names, a line of 30 numbers) to the breast-cancer model with plain grpcio.

    python models/breast_cancer/client.py 127.0.0.1:8500 models/breast_cancer/samples/*.csv

The address is the access service's, one model server's, or a tensorflow_model_server's.
"""

import csv
import sys
from pathlib import Path

import grpc

from dl_inference.messages import DataType, PredictRequest, PredictResponse

GROUPS = ("mean", "error", "worst")


def request_of(file: Path) -> PredictRequest:
    """Return a request with the three named inputs, each float32 [n, 10]."""
    rows = [[float(value) for value in row] for row in list(csv.reader(file.open()))[1:]]
    request = PredictRequest()
    request.model_spec.name = "breast_cancer"
    for group, name in enumerate(GROUPS):
        tensor = request.inputs[name]
        tensor.dtype = DataType.Value("DT_FLOAT")
        for size in (len(rows), 10):
            tensor.tensor_shape.dim.add(size=size)
        for row in rows:
            tensor.float_val.extend(row[group * 10 : group * 10 + 10])
    return request


def main(address: str, *files: str) -> None:
    """Print the class and its probability for each file."""
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        for file in files:
            outputs = predict(request_of(Path(file)), timeout=10).outputs
            print(f"{file}: {outputs['class'].string_val[0].decode()} ({max(outputs['probabilities'].float_val):.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
