"""The message classes of every protocol that the access service speaks.

They come from ``_wire.binpb``, the compiled ``protos/`` (``make protos``), and live in a descriptor pool of their
own: tensorflow-serving-api, seldon-core, tritonclient and mlserver put the same names into the default pool, and two
files of one name in one pool is an error. So all of them can be imported beside this module, in any order. Our
functions take any message that has ``SerializeToString``, ours or theirs.

Works on protobuf 3.20 to 7; nothing is generated, so nothing is tied to a protobuf version.
"""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper
from google.protobuf.message import Message

DESCRIPTORS: bytes = files(__package__).joinpath("_wire.binpb").read_bytes()
"""Serialized google.protobuf.FileDescriptorSet of ``protos/`` and what it imports, each file after its imports."""


class Classes:
    """The message classes of one set of files, in a descriptor pool of their own."""

    def __init__(self, serialized: bytes) -> None:
        """Take a google.protobuf.FileDescriptorSet, each file after its imports."""
        self.pool = descriptor_pool.DescriptorPool()
        # protobuf 4.22 brought the function and 5 took the factory's method away.
        has_function = hasattr(message_factory, "GetMessageClass")
        self._factory: Any = None if has_function else message_factory.MessageFactory(self.pool)
        # As bytes: the one form that the pools of all protobuf versions take.
        for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
            self.pool.AddSerializedFile(file.SerializeToString())

    def __call__(self, full_name: str) -> type[Message]:
        """Return the class of a message.

        Raises:
            KeyError: the files have no such message.
        """
        descriptor = self.pool.FindMessageTypeByName(full_name)
        found = self._factory.GetPrototype(descriptor) if self._factory else message_factory.GetMessageClass(descriptor)
        return found  # type: ignore[no-any-return]


_classes = Classes(DESCRIPTORS)


def message_class(full_name: str) -> type[Message]:
    """Return the class of a message.

    Args:
        full_name: with its package, e.g. ``seldon.protos.Feedback`` or ``google.protobuf.Any``.

    Raises:
        KeyError: ``protos/`` has no such message.
    """
    return _classes(full_name)


def _enum(full_name: str) -> Any:
    # Has Name(number), Value(name), keys(), values(), items(), as enums of generated code.
    return enum_type_wrapper.EnumTypeWrapper(_classes.pool.FindEnumTypeByName(full_name))


# google.protobuf
AnyMessage = message_class("google.protobuf.Any")
Empty = message_class("google.protobuf.Empty")
Int64Value = message_class("google.protobuf.Int64Value")
ListValue = message_class("google.protobuf.ListValue")
Struct = message_class("google.protobuf.Struct")
Value = message_class("google.protobuf.Value")

# tensorflow
DataType = _enum("tensorflow.DataType")
Example = message_class("tensorflow.Example")
SignatureDef = message_class("tensorflow.SignatureDef")
TensorInfo = message_class("tensorflow.TensorInfo")
TensorProto = message_class("tensorflow.TensorProto")
TensorShapeProto = message_class("tensorflow.TensorShapeProto")

# tensorflow.serving
ClassificationRequest = message_class("tensorflow.serving.ClassificationRequest")
ClassificationResponse = message_class("tensorflow.serving.ClassificationResponse")
GetModelMetadataRequest = message_class("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = message_class("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class("tensorflow.serving.GetModelStatusResponse")
ModelSpec = message_class("tensorflow.serving.ModelSpec")
ModelVersionStatus = message_class("tensorflow.serving.ModelVersionStatus")
MultiInferenceRequest = message_class("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = message_class("tensorflow.serving.MultiInferenceResponse")
PredictRequest = message_class("tensorflow.serving.PredictRequest")
PredictResponse = message_class("tensorflow.serving.PredictResponse")
PredictionLog = message_class("tensorflow.serving.PredictionLog")
RegressionRequest = message_class("tensorflow.serving.RegressionRequest")
RegressionResponse = message_class("tensorflow.serving.RegressionResponse")
ReloadConfigRequest = message_class("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = message_class("tensorflow.serving.ReloadConfigResponse")
SignatureDefMap = message_class("tensorflow.serving.SignatureDefMap")

# seldon.protos
DefaultData = message_class("seldon.protos.DefaultData")
Feedback = message_class("seldon.protos.Feedback")
Meta = message_class("seldon.protos.Meta")
SeldonGraphMetadata = message_class("seldon.protos.SeldonGraphMetadata")
SeldonMessage = message_class("seldon.protos.SeldonMessage")
SeldonMessageList = message_class("seldon.protos.SeldonMessageList")
SeldonModelMetadata = message_class("seldon.protos.SeldonModelMetadata")
SeldonModelMetadataRequest = message_class("seldon.protos.SeldonModelMetadataRequest")
Tensor = message_class("seldon.protos.Tensor")

# inference
InferParameter = message_class("inference.InferParameter")
InferTensorContents = message_class("inference.InferTensorContents")
ModelConfigRequest = message_class("inference.ModelConfigRequest")
ModelConfigResponse = message_class("inference.ModelConfigResponse")
ModelInferRequest = message_class("inference.ModelInferRequest")
ModelInferResponse = message_class("inference.ModelInferResponse")
ModelMetadataRequest = message_class("inference.ModelMetadataRequest")
ModelMetadataResponse = message_class("inference.ModelMetadataResponse")
ModelReadyRequest = message_class("inference.ModelReadyRequest")
ModelReadyResponse = message_class("inference.ModelReadyResponse")
ModelStreamInferResponse = message_class("inference.ModelStreamInferResponse")
RepositoryIndexRequest = message_class("inference.RepositoryIndexRequest")
RepositoryIndexResponse = message_class("inference.RepositoryIndexResponse")
ServerLiveRequest = message_class("inference.ServerLiveRequest")
ServerLiveResponse = message_class("inference.ServerLiveResponse")
ServerMetadataRequest = message_class("inference.ServerMetadataRequest")
ServerMetadataResponse = message_class("inference.ServerMetadataResponse")
ServerReadyRequest = message_class("inference.ServerReadyRequest")
ServerReadyResponse = message_class("inference.ServerReadyResponse")

# xds.data.orca.v3
OrcaLoadReport = message_class("xds.data.orca.v3.OrcaLoadReport")

# grpc.health.v1, grpc.reflection.v1
HealthCheckRequest = message_class("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message_class("grpc.health.v1.HealthCheckResponse")
HealthListRequest = message_class("grpc.health.v1.HealthListRequest")
HealthListResponse = message_class("grpc.health.v1.HealthListResponse")
ServerReflectionRequest = message_class("grpc.reflection.v1.ServerReflectionRequest")
ServerReflectionResponse = message_class("grpc.reflection.v1.ServerReflectionResponse")
