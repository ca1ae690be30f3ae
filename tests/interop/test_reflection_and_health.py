"""Reflection as grpcurl and ghz ask for it, and health as probes do, with grpc's own clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest
from fixtures.access_process import Access, cluster
from fixtures.contract import METHODS
from fixtures.processes import Endpoint
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICES = {each["path"].split("/")[1] for each in METHODS}
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Stage:
    """An access service in front of one endpoint."""

    def __init__(self, access: Access, endpoint: Endpoint, channel: grpc.Channel) -> None:
        self.access = access
        self.endpoint = endpoint
        self.channel = channel
        self.health = health_pb2_grpc.HealthStub(channel)

    def watch(self, service: str) -> Iterator[int]:
        request = health_pb2.HealthCheckRequest(service=service)
        return (each.status for each in self.health.Watch(request, timeout=30))

    def check(self, service: str) -> int:
        return self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status


@pytest.fixture
def stage(
    start_access: Callable[..., Access],
    start_endpoint: Callable[..., Endpoint],
    connect: Callable[[str], grpc.Channel],
) -> Stage:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    return Stage(access, endpoint, connect(access.address))


# --- reflection


def ask(stage: Stage, version: str, *requests: reflection_pb2.ServerReflectionRequest) -> list[object]:
    call = stage.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter(requests), timeout=20))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_the_services_are_listed_and_every_symbol_has_its_file(stage: Stage, version: str) -> None:
    listed = ask(stage, version, reflection_pb2.ServerReflectionRequest(list_services=""))[0]
    names = {each.name for each in listed.list_services_response.service}
    assert names == SERVICES
    symbols = [*sorted(names), *(each["path"][1:].replace("/", ".") for each in METHODS)]
    symbols += ["tensorflow.serving.PredictRequest", "inference.ModelInferRequest.InferInputTensor"]
    symbols += ["tensorflow.DataType", "seldon.protos.SeldonMessage.data"]
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=each) for each in symbols]
    answers = ask(stage, version, *requests)
    assert len(answers) == len(requests)
    for request, answer in zip(requests, answers, strict=True):
        assert answer.original_request == request
        assert answer.file_descriptor_response.file_descriptor_proto, request


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_what_is_unknown_is_told_and_the_stream_goes_on(stage: Stage, version: str) -> None:
    unknown = reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Symbol")
    by_name = reflection_pb2.ServerReflectionRequest(file_by_filename="no/such.proto")
    known = reflection_pb2.ServerReflectionRequest(file_by_filename="proto/prediction.proto")
    first, second, third = ask(stage, version, unknown, by_name, known)
    assert first.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert second.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    file = descriptor_pb2.FileDescriptorProto.FromString(third.file_descriptor_response.file_descriptor_proto[0])
    assert file.name == "proto/prediction.proto"


def test_a_client_that_has_only_the_address_can_build_a_message_and_call(stage: Stage) -> None:
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(stage.channel))
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    method = service.FindMethodByName("Predict")
    request = message_factory.GetMessageClass(method.input_type)()
    request.model_spec.name = "m"
    request.inputs["x"].float_val.append(1.5)
    call = stage.channel.unary_unary(f"/{service.full_name}/{method.name}")
    # The endpoint sends the request back.
    assert type(request).FromString(call(request.SerializeToString(), timeout=20)) == request


# --- health


def test_check_answers_for_the_service_and_for_each_model_truthfully(stage: Stage) -> None:
    assert stage.check("") == SERVING
    assert stage.check("m") == SERVING
    watch = stage.watch("m")
    assert next(watch) == SERVING
    stage.endpoint.kill()
    assert next(watch) == NOT_SERVING
    assert stage.check("m") == NOT_SERVING
    assert stage.check("") == SERVING
    stage.endpoint.restart()
    assert next(watch) == SERVING
    assert stage.check("m") == SERVING


def test_an_unknown_model_is_not_found_and_a_watch_waits_until_it_is_there(stage: Stage) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stage.check("newcomer")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stage.watch("newcomer")
    assert next(watch) == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    config = cluster([stage.endpoint.address])
    stage.access.configure({**config, "models": {**config["models"], "newcomer": {"cluster": "fleet"}}})
    assert next(watch) == SERVING


def test_list_names_every_model(stage: Stage) -> None:
    listed = stage.health.List(health_pb2.HealthListRequest(), timeout=20).statuses
    assert {name: each.status for name, each in listed.items()} == {"": SERVING, "m": SERVING}


def test_a_drain_is_told_to_who_watches(stage: Stage) -> None:
    watch = stage.watch("")
    assert next(watch) == SERVING
    stage.access.terminate()
    assert next(watch) == NOT_SERVING
