"""What the TensorFlow server says in a real ZooKeeper while its folder changes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.registry_book import LIMIT_S, Book
from fixtures.zookeeper_process import one_server
from stand_in_process import Server, number, write

from dl_inference.messages import PredictResponse


@pytest.fixture
def book(tmp_path_factory) -> Iterator[Book]:
    with one_server(tmp_path_factory.mktemp("zookeeper")) as server:
        made = Book(server.address)
        yield made
        made.close()


def test_versions_labels_and_names_are_announced_as_they_change(start: Callable[..., Server], folder: Path, book: Book):
    settings = {"versions": [1], "labels": {"stable": 1}, "aliases": ["39"]}
    (folder / "model.yaml").write_text(json.dumps(settings))
    server = start(env={"DL_INFERENCE_REGISTER": book.url, "DL_INFERENCE_GOODBYE_MS": "300"})
    document = book.wait("m", version="1")
    expected = {"address": server.address, "protocol": "tfs", "versions": [], "labels": ["stable"], "state": "ready"}
    assert expected.items() <= document.items()
    assert book.wait("39") == {**document, "model": "39"}
    write(folder, 2, "20")
    (folder / "model.yaml").write_text(json.dumps({"versions": [1, 2], "labels": {"stable": 1, "new": 2}}))
    document = book.wait("m", version="2", versions=["1"], labels=["stable", "new"])
    assert server.predict(1, version=int(document["version"])) == 21, "announced when warm"
    wait_until(lambda: book.addresses("39") == [], "the former alias is withdrawn", LIMIT_S)
    (folder / "model.yaml").write_text(json.dumps({"labels": {"new": 2}, "aliases": ["a b"]}))
    book.wait("m", version="2", versions=[], labels=["new"])
    server.process.wait_line("'a b' cannot be announced as model")
    server.process.signal(signal.SIGTERM)
    book.wait("m", state="draining")
    assert server.call("/tensorflow.serving.PredictionService/Predict", number(1), PredictResponse), "serves on"
    assert server.process.wait(LIMIT_S) == 0
    assert book.models() == []
