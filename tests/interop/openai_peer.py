"""Runs in .peers/openai: the real clients of OpenAI and Cohere as callers; prints what they found as one line of JSON.

python openai_peer.py ADDRESS MODEL
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from typing import Any

import cohere
import cohere.core
import openai


def error_of(call: Callable[[], Any]) -> list[Any]:
    """The class of what a call raises, its status and what the clients read of its body."""
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, error.type, error.message]
    except cohere.core.ApiError as error:
        return [type(error).__name__, error.status_code, error.body["message"]]
    return ["OK"]


def single(numbers: list[float]) -> list[float]:
    """Numbers as float32 has them."""
    return list(struct.unpack(f"{len(numbers)}f", struct.pack(f"{len(numbers)}f", *numbers)))


def main() -> None:
    address, model = sys.argv[1:]
    client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", timeout=60, max_retries=0)

    def embed(**asked: Any) -> Any:
        return client.embeddings.create(**{"model": model, "input": "ab"} | asked)

    texts = ["ab", "é\n"]
    answer = embed(input=texts)
    found: dict[str, Any] = {
        "kind": [answer.object, answer.model, [(each.object, each.index) for each in answer.data]],
        "usage": [answer.usage.prompt_tokens, answer.usage.total_tokens],
        # Without a format the client asks for base64 itself.
        "same": [single(each.embedding) for each in embed(input=texts, encoding_format="float").data]
        == [each.embedding for each in answer.data],
        "vectors": [each.embedding for each in answer.data],
        "tokens": [each.embedding for each in embed(input=[[97, 98], [195, 169, 10]]).data]
        == [each.embedding for each in answer.data],
        "one of tokens": embed(input=[97, 98]).data[0].embedding == answer.data[0].embedding,
        "dimensions": [len(embed(dimensions=3).data[0].embedding), len(embed().data[0].embedding)],
        "errors": {
            "model": error_of(lambda: embed(model="nobody")),
            "input": error_of(lambda: embed(input=[])),
            "nan": error_of(lambda: embed(input="nan")),
            "few": error_of(lambda: embed(input=["few", "b"])),
            "dimensions": error_of(lambda: embed(dimensions=100)),
        },
    }
    documents = ["hhhh", "abab", "a"]
    for name, ranker in (
        ("v1", cohere.Client("none", base_url=f"http://{address}", timeout=60)),
        ("v2", cohere.ClientV2("none", base_url=f"http://{address}", timeout=60)),
    ):
        ranked = ranker.rerank(model=model, query="ab", documents=documents, top_n=2)
        found[name] = [[each.index, each.relevance_score] for each in ranked.results]
        found["errors"][name] = error_of(
            lambda ranker=ranker: ranker.rerank(model="nobody", query="a", documents=["b"])
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
