"""A real PyTorch server asked over gRPC and in JSON: the same bits for every datatype, in both directions."""

from __future__ import annotations

import json
import struct
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from fixtures import oip_models
from fixtures.access_process import OIP, Access
from fixtures.processes import Process

from dl_inference import messages

SEED = 20_261_130
TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
}
# A hook gets BF16 as float32, which numpy has, and gives back that.
ANSWERED = {"BF16": "FP32"}
TEXTS = ["", "é", 'a\n"\\\0', "😀" * 40]


def values(datatype: str) -> Any:
    """Return 64 elements: the extremes of a type, and whatever bits come."""
    kind = np.dtype(TYPES[datatype])
    generator = np.random.default_rng(SEED)
    if kind == np.bool_:
        return generator.integers(0, 2, 64).astype(kind)
    bits = np.frombuffer(generator.bytes(64 * kind.itemsize), kind).copy()
    if datatype in ("FP16", "BF16", "FP32", "FP64"):
        info = ml_dtypes.finfo(kind)
        bits[:6] = [info.max, info.min, info.smallest_subnormal, info.tiny, kind.type(0.1), kind.type(-3)]
        # JSON has no words for them: another test's.
        with np.errstate(invalid="ignore"):
            bits[~np.isfinite(bits.astype(np.float64))] = 1
        # The model adds 0, which makes 0 of -0.
        bits[bits == 0] = 1
    else:
        bits[:2] = [np.iinfo(kind).min, np.iinfo(kind).max]
    return bits


def written(array: Any) -> list[Any]:
    """Return the elements as Python writes them into JSON; half precision is exact as a double."""
    if array.dtype in (np.float16, ml_dtypes.bfloat16):
        return list(array.astype(np.float64).tolist())
    return list(array.tolist())


def read(data: list[Any], datatype: str) -> bytes:
    kind = np.dtype(TYPES[datatype])
    if datatype in ("FP16", "BF16"):
        return np.array(data, np.float64).astype(kind).tobytes()
    return np.array(data, kind).tobytes()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the access service answers for the model."""
    started: list[Process] = [oip_models.start(oip_models.echo(tmp_path_factory.mktemp("model") / "echo"))]

    def run(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    try:
        models = {"echo": {"endpoints": [oip_models.wait(started[0])]}}
        access = Access(run, tmp_path_factory.mktemp("access"), {"models": models})
        access.wait_live_model("echo")
        yield access.address
    finally:
        for process in reversed(started):
            process.kill()
            print(process.log)


@pytest.fixture(scope="module")
def call(address: str) -> Iterator[Callable[[str, bytes, int], bytes]]:
    """Calls over gRPC with raw contents; returns those of the answer."""
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(
            OIP, messages.ModelInferRequest.SerializeToString, messages.ModelInferResponse.FromString
        )

        def over_grpc(datatype: str, raw: bytes, count: int) -> bytes:
            request = messages.ModelInferRequest(model_name="echo")
            request.inputs.add(name="x", datatype=datatype, shape=[count])
            request.raw_input_contents.append(raw)
            answer = infer(request, timeout=60)
            output = answer.outputs[0]
            assert (output.datatype, list(output.shape)) == (ANSWERED.get(datatype, datatype), [count])
            return bytes(answer.raw_output_contents[0])

        yield over_grpc


def post(address: str, document: Any, binary: bytes | None = None) -> tuple[dict[str, Any], bytes]:
    """Return the first output, and the binary data of the answer."""
    body = json.dumps(document).encode()
    headers = {} if binary is None else {"inference-header-content-length": str(len(body))}
    request = urllib.request.Request(f"http://{address}/v2/models/echo/infer", body + (binary or b""), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        length = int(answer.headers.get("inference-header-content-length", len(text)))
        output: dict[str, Any] = json.loads(text[:length])["outputs"][0]
        return output, text[length:]


def document(datatype: str, count: int, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [count], **more}]}


@pytest.mark.parametrize("datatype", TYPES)
def test_json_and_grpc_have_the_same_bits(address: str, call: Callable[..., bytes], datatype: str) -> None:
    array, answered = values(datatype), ANSWERED.get(datatype, datatype)
    raw, count = array.tobytes(), array.size
    expected = call(datatype, raw, count)
    assert expected == array.astype(TYPES[answered]).tobytes()
    output, _ = post(address, document(datatype, count, data=written(array)))
    assert (output["datatype"], output["shape"]) == (answered, [count])
    assert read(output["data"], answered) == expected
    # One side in JSON, the other one raw: what one reader or writer did wrong, the other does not put right.
    asked = document(datatype, count, data=written(array)) | {"parameters": {"binary_data_output": True}}
    assert post(address, asked)[1] == expected
    output, _ = post(address, document(datatype, count, parameters={"binary_data_size": len(raw)}), raw)
    assert read(output["data"], answered) == expected


def test_json_and_grpc_have_the_same_text(address: str, call: Callable[..., bytes]) -> None:
    raw = b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in TEXTS)
    assert call("BYTES", raw, len(TEXTS)) == raw
    assert post(address, document("BYTES", len(TEXTS), data=TEXTS))[0]["data"] == TEXTS
    asked = document("BYTES", len(TEXTS), data=TEXTS) | {"parameters": {"binary_data_output": True}}
    assert post(address, asked)[1] == raw
    raw_asked = document("BYTES", len(TEXTS), parameters={"binary_data_size": len(raw)})
    assert post(address, raw_asked, raw)[0]["data"] == TEXTS


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_what_json_has_no_number_for_goes_in_by_its_word_and_comes_out_as_null(
    address: str, call: Callable[..., bytes], datatype: str
) -> None:
    array = np.array([np.nan, np.inf, -np.inf, 0.5], TYPES[datatype])
    # Python writes NaN, Infinity and -Infinity.
    asked = document(datatype, 4, data=written(array))
    kind, expected = TYPES[ANSWERED.get(datatype, datatype)], array.astype(float)
    for raw in (
        post(address, asked | {"parameters": {"binary_data_output": True}})[1],
        call(datatype, array.tobytes(), 4),
    ):
        assert np.array_equal(np.frombuffer(raw, kind).astype(float), expected, equal_nan=True)
    assert post(address, asked)[0]["data"] == [None, None, None, 0.5]
