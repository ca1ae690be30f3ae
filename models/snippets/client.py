"""Send text files to the snippets model with plain grpcio.

    python models/snippets/client.py 127.0.0.1:8500 models/snippets/samples/*.txt

The address is the access service's, or one model server's; the tag `model` tells the access service where to go, the
tag `top_k` tells the model how many languages to name.
"""

import sys
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToDict

from dl_inference.messages import SeldonMessage


def main(address: str, *files: str) -> None:
    """Print the two likeliest languages of each file."""
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary(
            "/seldon.protos.Model/Predict",
            request_serializer=SeldonMessage.SerializeToString,
            response_deserializer=SeldonMessage.FromString,
        )
        for file in files:
            request = SeldonMessage(strData=Path(file).read_text(encoding="utf-8"))
            request.meta.tags["model"].string_value = "snippets"
            request.meta.tags["top_k"].number_value = 2
            answer = MessageToDict(predict(request, timeout=10).jsonData)
            for found in answer["predictions"]:
                top = [f"{each['class']} ({each['score']:.3f})" for each in found["top"]]
                print(f"{file}: {', '.join(top)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
