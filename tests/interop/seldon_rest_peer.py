"""Runs in .peers/seldon: seldon-core's own wrapper, over REST and gRPC (``serve``), or its client (``call``)."""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any

import numpy as np


class Model:
    """Gives back what it gets."""

    def predict(self, x: Any, names: Any, meta: Any = None) -> Any:
        return x


def serve() -> None:
    from seldon_core.metrics import SeldonMetrics
    from seldon_core.wrapper import get_grpc_server, get_rest_microservice
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    model, metrics = Model(), SeldonMetrics()
    server = get_grpc_server(model, metrics)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    rest = make_server("127.0.0.1", 0, get_rest_microservice(model, metrics), threaded=True)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    print("listening", f"127.0.0.1:{grpc_port}", f"127.0.0.1:{rest.server_port}", flush=True)
    server.wait_for_termination()


def call(address: str) -> dict[str, Any]:
    from seldon_core.seldon_client import SeldonClient

    data = np.array([[1.0, 2.5], [3.0, 4.0]])
    found: dict[str, Any] = {}
    for namespace in (None, "team"):
        client = SeldonClient(
            deployment_name="wrapped", namespace=namespace, gateway="istio", gateway_endpoint=address, transport="rest"
        )
        for kind in ("tensor", "ndarray"):
            answer = client.predict(data=data, payload_type=kind, client_return_type="dict")
            found[f"{namespace} {kind}"] = [answer.success, answer.response and answer.response.get("data"), answer.msg]
        found[f"{namespace} strData"] = client.predict(str_data="gärtner", client_return_type="dict").response
        found[f"{namespace} jsonData"] = client.predict(json_data={"a": [1]}, client_return_type="dict").response
    direct = SeldonClient(microservice_endpoint=address, transport="rest")
    answer = direct.microservice(method="predict", data=data, payload_type="ndarray")
    found["microservice"] = [answer.success, len(answer.response.data.ndarray.values) if answer.success else answer.msg]
    return found


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(call(sys.argv[2])))
