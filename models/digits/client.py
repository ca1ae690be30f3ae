"""Send PNG files to the digits model with plain grpcio.

    python models/digits/client.py 127.0.0.1:8500 models/digits/samples/*.png

The address is the access service's, or one model server's; the tag `model` tells the access service where to go.
"""

import sys
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToDict

from dl_inference.messages import SeldonMessage


def main(address: str, *files: str) -> None:
    """Print the class and the score of each picture."""
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )
        for file in files:
            request = SeldonMessage(binData=Path(file).read_bytes())
            request.meta.tags["model"].string_value = "digits"
            answer = MessageToDict(predict(request, timeout=10).jsonData)
            for prediction in answer["predictions"]:
                print(f"{file}: {prediction['class']} ({prediction['score']:.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
