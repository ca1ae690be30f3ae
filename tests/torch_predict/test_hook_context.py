"""What hooks get beside the payload, on a real model server: settings, the request, methods, metrics, error numbers."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from fixtures.access_process import wait_until
from fixtures.processes import Process
from prometheus_client.parser import text_string_to_metric_families

from dl_inference import Client
from dl_inference import messages as m
from dl_inference.client.errors import Aborted, InvalidArgument

SELDON, OIP = "/seldon.protos.Seldon/Predict", "/inference.GRPCInferenceService/ModelInfer"
METADATA = "/inference.GRPCInferenceService/ModelMetadata"
MODEL_PY = "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(2, 1)\n"
SERVE = """
import sys
from dl_inference.serving.options import ServeOptions
from torch_predict.server import serve
sys.exit(serve(ServeOptions(model_dir=sys.argv[1], listen=["127.0.0.1:0"], admin="127.0.0.1:0")))
"""
# The first is of a method: what metadata say is what the second one shows.
SAMPLES = [
    {"request": {"data": {"ndarray": [[1, 2]]}, "meta": {"tags": {"method": "plain"}}}},
    {"request": {"strData": "request"}},
]
SETTINGS = {"threshold": 0.5, "is_loud": True, "words": {"yes": ["oui", "ja"]}}
PROCESSOR = """
import threading
import numpy as np, torch, torch_predict

AT_IMPORT = torch_predict.settings()["threshold"]
STATE = {}
SEEN = torch_predict.counter("seen", "Texts seen.", ["text"])
LENGTHS = torch_predict.histogram("text_characters", "Characters.", [1, 5, 10])
LAST = torch_predict.gauge("last_characters", "Characters of the last text.")

def initialise(model, settings):
    STATE["weight"] = model.weight.tolist()
    STATE["loud"] = settings["is_loud"]
    class Doubled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
        def forward(self, x): return 2 * self.inner(x)
    return Doubled(model)

def finish():
    print("finished with", STATE["weight"], flush=True)
    raise KeyError("not so well")

def told():
    request = torch_predict.request()
    deadline_s = request.deadline_s
    return {"id": request.id, "method": request.method, "parameters": request.parameters, "inputs": request.inputs,
            "deadline_s": deadline_s}

def preprocess(x, **kwargs):
    if not isinstance(x, (str, dict)): return torch.tensor(np.asarray(x, np.float32))
    if x == "settings":
        try: torch_predict.settings()["threshold"] = 1
        except TypeError: refused = True
        return {"import": AT_IMPORT, "now": torch_predict.settings()["threshold"], "refused": refused,
                "words": list(torch_predict.settings()["words"]["yes"]), "loud": STATE["loud"]}
    if x == "request": return told()
    if x == "other thread":
        said = []
        def ask():
            try: torch_predict.request()
            except RuntimeError as error: said.append(str(error))
        thread = threading.Thread(target=ask)
        thread.start(); thread.join()
        return {"said": said}
    if x == "fails with a number": raise torch_predict.Error("ABORTED", "not now", number=-1234)
    if x == "fails without": raise torch_predict.Error("ABORTED", "not now")
    if isinstance(x, str) and x.startswith("count"):
        SEEN.inc(text=x); LENGTHS.observe(len(x)); LAST.set(len(x))
    return x

def run_model(model, x, **kwargs):
    return model(x) if isinstance(x, torch.Tensor) else x

def postprocess(x, **kwargs):
    return x.numpy() + 1 if isinstance(x, torch.Tensor) else x

@torch_predict.method
def plain(model, x):
    return model(torch.tensor(np.asarray(x, np.float32)))

@torch_predict.method("with-meta")
def with_meta(model, x, **kwargs):
    return {"tags": kwargs["meta"]["tags"], "grad": torch.is_grad_enabled(), "id": torch_predict.request().id}
"""


class Server:
    """A running model server and its clients."""

    def __init__(self, folder: Any) -> None:
        (folder / "model.py").write_text(MODEL_PY)
        (folder / "processor.py").write_text(PROCESSOR)
        (folder / "model.yaml").write_text(json.dumps({"settings": SETTINGS}))
        (folder / "samples").mkdir()
        (folder / "samples" / "expected.json").write_text(json.dumps(SAMPLES))
        torch.save({"weight": torch.tensor([[1.0, 10.0]]), "bias": torch.zeros(1)}, folder / "model.pt")
        env = {"DL_INFERENCE_TORCH_THREADS": "1", "DL_INFERENCE_DRAIN_TIMEOUT_MS": "5000"}
        self.process = Process([sys.executable, "-c", SERVE, folder], env=env)
        line = self.process.wait_line(r"serving m version 1 on (\S+), (\S+)", timeout_s=60)
        self.address, self.admin = line[1], line[2]
        self.client = Client(self.address)
        self.channel = grpc.insecure_channel(self.address)

    def ask(self, value: Any, **options: Any) -> Any:
        return self.client.predict_seldon("m", value, timeout_ms=20_000, **options).value

    def infer(self, request: Any) -> Any:
        call = self.channel.unary_unary(OIP, m.ModelInferRequest.SerializeToString, m.ModelInferResponse.FromString)
        return call(request, timeout=20)

    def close(self) -> None:
        self.channel.close()
        self.client.close()
        self.process.kill()

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return {(s.name, tuple(sorted(s.labels.items()))): s.value for each in families for s in each.samples}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hook_context") / "m"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.close()


def text_request(text: str, **fields: Any) -> Any:
    request = m.ModelInferRequest(model_name="m", **fields)
    request.inputs.add(name="strData", datatype="BYTES", shape=[1]).contents.bytes_contents.append(text.encode())
    return request


def told(answer: Any) -> Any:
    assert [each.name for each in answer.outputs] == ["jsonData"]
    return json.loads(answer.raw_output_contents[0][4:])


def test_settings_reach_hooks_at_import_and_later_and_are_read_only(server):
    found = server.ask("settings")
    assert found == {"import": 0.5, "now": 0.5, "refused": True, "words": ["oui", "ja"], "loud": True}


def test_a_hook_sees_the_seldon_request_that_it_answers(server):
    found = server.ask("request", tags={"scale": 2.0}, metadata=[("x-request-id", "my-own")])
    assert 0 < found.pop("deadline_s") <= 21  # gRPC rounds up
    assert found == {"id": "my-own", "method": SELDON, "parameters": {"scale": 2.0}, "inputs": {}}


def test_a_hook_sees_parameters_of_an_oip_request_and_of_its_inputs(server):
    request = text_request("request")
    request.parameters["n"].int64_param = 7
    request.inputs[0].parameters["tokenizer"].string_param = "fast"
    request.inputs[0].parameters["pad"].bool_param = True
    found = told(server.infer(request))
    assert (found["method"], found["parameters"]) == (OIP, {"n": 7})
    assert found["inputs"] == {"strData": {"tokenizer": "fast", "pad": True}}
    assert told(server.infer(text_request("request")))["inputs"] == {}


def test_a_hook_has_a_request_in_the_warm_up_and_a_methods_sample_tells_nothing_of_other_calls(server):
    assert "case" not in server.process.log  # of a sample that failed
    call = server.channel.unary_unary(
        METADATA, m.ModelMetadataRequest.SerializeToString, m.ModelMetadataResponse.FromString
    )
    found = call(m.ModelMetadataRequest(name="m"), timeout=20)
    assert [each.name for each in [*found.inputs, *found.outputs]] == ["strData", "jsonData"]


def test_there_is_no_request_in_a_thread_of_the_hooks_own(server):
    (text,) = server.ask("other thread")["said"]
    assert text.startswith("there is no request: call torch_predict.request() in a hook")


def test_initialise_may_replace_the_model_and_other_hooks_go_on(server):
    assert server.ask(np.ones((1, 2)), kind="ndarray").tolist() == [[23.0]]  # 2 * (1 + 10), and postprocess


def test_a_method_is_a_whole_run_of_its_own_in_both_protocols(server):
    assert server.ask(np.ones((1, 2)), kind="ndarray", tags={"method": "plain"}).tolist() == [[22.0]]
    request = m.ModelInferRequest(model_name="m")
    request.parameters["method"].string_param = "plain"
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 1])
    answer = server.infer(request)
    assert [(each.name, each.datatype) for each in answer.outputs] == [("output", "FP32")]
    found = server.ask("x", tags={"method": "with-meta", "more": "y"}, metadata=[("x-request-id", "mine")])
    assert found == {"tags": {"method": "with-meta", "more": "y"}, "grad": False, "id": "mine"}


def test_an_unknown_method_names_those_that_there_are(server):
    for name in ("plian", 3.0, "", "x" * 1000):
        with pytest.raises(InvalidArgument, match="name one of plain, with-meta, or send no 'method'") as caught:
            server.ask("x", tags={"method": name})
        assert len(caught.value.message) < 200


def test_an_errors_own_number_is_told_beside_the_code(server):
    with pytest.raises(Aborted) as caught:
        server.ask("fails with a number")
    assert (caught.value.number, caught.value.message) == (-1234, "not now")
    assert "ABORTED (hook, number -1234): not now" in str(caught.value)
    with pytest.raises(Aborted) as caught:
        server.ask("fails without")
    assert caught.value.number is None
    assert "access-error-number" not in caught.value.trailers


def test_metrics_of_the_models_own_appear_in_its_page_beside_ours(server):
    for text in ("count a", 'count "b"\n\\', "count a"):
        server.ask(text)

    def counted() -> bool:
        return server.metrics().get(("model_seen_total", (("text", "count a"),))) == 2

    wait_until(counted, "the counts appear", 30)
    found = server.metrics()
    assert found["model_seen_total", (("text", 'count "b"\n\\'),)] == 1
    assert found["model_text_characters_bucket", (("le", "10"),)] == 2
    assert found["model_text_characters_bucket", (("le", "+Inf"),)] == 3
    assert found["model_text_characters_sum", ()] == 7 + 11 + 7
    assert found["model_last_characters", ()] == 7
    assert ("dl_draining", ()) in found


def test_finish_is_called_at_the_end_and_what_it_raises_changes_nothing(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    server = Server(folder)
    server.process.signal(signal.SIGTERM)
    status = server.process.wait(30)
    server.close()
    assert status == 0
    assert server.process.log.count("finished with [[1.0, 10.0]]") == 1
    assert "finish failed" in server.process.log
    assert "KeyError: 'not so well'" in server.process.log
