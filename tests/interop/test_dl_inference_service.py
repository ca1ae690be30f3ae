"""The dl_inference service as its existing clients call it: what reaches which method of which model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from fixtures.access_process import Access
from fixtures.http2_peer import Endpoint, Stream, echo

from dl_inference import messages

SERVICE = "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint(echo)
    yield endpoint
    endpoint.close()


@pytest.fixture
def call(
    endpoint: Endpoint, start_access: Callable[..., Access], connect: Callable[[str], grpc.Channel]
) -> Callable[[str, Any], Any]:
    models = {name: {"cluster": "fleet"} for name in ("69", "textcnn-70", "resnet")}
    access = start_access({"clusters": {"fleet": {"endpoints": [endpoint.address]}}, "models": models})
    channel = connect(access.address)

    def do(method: str, request: Any) -> Any:
        answer = channel.unary_unary(f"{SERVICE}/{method}")(request.SerializeToString(), timeout=20)
        return type(request).FromString(answer)

    return do


def upstream_path(stream: Stream) -> str:
    return dict(stream.headers or [])[":path"]


def tfs(name: str) -> Any:
    request = messages.PredictRequest()
    request.model_spec.name = name
    request.inputs["x"].float_val.extend([1.0, 2.0])
    return request


def seldon(**tags: Any) -> Any:
    request = messages.SeldonMessage(strData="x")
    for name, value in tags.items():
        if isinstance(value, str):
            request.meta.tags[name].string_value = value
        else:
            request.meta.tags[name].number_value = value
    return request


def oip(name: str) -> Any:
    return messages.ModelInferRequest(model_name=name, id="7")


@pytest.mark.parametrize("name", ["69", "textcnn-69", "textcnn-070-69", "textcnn-70", "resnet"])
def test_predict_goes_to_tensorflow_serving_with_its_name_unchanged(
    call: Callable[[str, Any], Any], endpoint: Endpoint, name: str
) -> None:
    request = tfs(name)
    assert call("Predict", request) == request
    assert upstream_path(endpoint.last_call()) == "/tensorflow.serving.PredictionService/Predict"


@pytest.mark.parametrize("method", ["PytorchPredict", "CaffePredict"])
@pytest.mark.parametrize("tags", [{"model": "resnet"}, {"taskId": 69}, {"taskId": "69"}, {"model": "x-69"}])
def test_pytorch_and_caffe_go_to_a_seldon_model_by_their_tags(
    call: Callable[[str, Any], Any], endpoint: Endpoint, method: str, tags: dict[str, Any]
) -> None:
    request = seldon(**tags)
    assert call(method, request) == request
    assert upstream_path(endpoint.last_call()) == "/seldon.protos.Model/Predict"


def test_tis_goes_to_the_open_inference_protocol(call: Callable[[str, Any], Any], endpoint: Endpoint) -> None:
    request = oip("anything-69")
    assert call("TisPredict", request) == request
    assert upstream_path(endpoint.last_call()) == "/inference.GRPCInferenceService/ModelInfer"


def test_a_task_id_that_nobody_serves_is_not_found(call: Callable[[str, Any], Any]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call("Predict", tfs("textcnn-71"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
