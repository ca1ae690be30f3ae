"""Make model.pt2: whether a piece of text is C++, English or Python.

    python models/snippets/make_model.py             trains (well under a minute on 2 cores) and writes model.pt2
    python models/snippets/make_model.py --samples   also writes accuracy.json and samples/expected.json anew

Needs the package torch. Nothing is downloaded and no text is kept: corpus.py reads what Python and torch bring.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
from pathlib import Path

import torch
from corpus import TEST_HEADERS, TEST_MODULES, TRAIN_HEADERS, TRAIN_MODULES, corpus, pieces
from torch import nn
from windows import NAMES, WINDOW, windows

HERE = Path(__file__).resolve().parent
SEED = 20261121
EPOCHS = 3
BATCH = 64
LONGEST = 4
BUCKETS = 1 << 14
WIDTH = 8
PER_LANGUAGE = 5_000
"""Most pieces of one language to train on."""

LINES = 5
LEAST_ACCURACY = 0.93
"""Of single lines; below it something is broken. The accuracy that this script reached is in accuracy.json."""


class Snippets(nn.Module):
    """uint8 [n, b], b <= WINDOW, 0 behind the text -> float32 [n, 3] logits.

    A mean of vectors learned for the byte sequences of length 1 to LONGEST, which share BUCKETS places by a hash.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, WIDTH)
        self.last = nn.Linear(WIDTH, len(NAMES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits; padding changes nothing."""
        x = x.long()
        here = (x > 0).unsqueeze(2)
        key, total = torch.zeros_like(x), 0
        for length in range(LONGEST):
            after = nn.functional.pad(x, (0, length))[:, length:]  # 0 where the text ends: an end is a sign, too
            key = key * 257 + after
            bucket = (key * 40_503 + length * 7_919) % BUCKETS
            total = total + (self.embedding(bucket) * here).sum(1)
        return self.last(total / here.sum(1) / LONGEST)


def training_set(rng: random.Random) -> list[tuple[str, int]]:
    """Return (text, language) of 1 to LINES lines each, as many of each language."""
    found = []
    for name, of_language in corpus(TRAIN_MODULES, TRAIN_HEADERS).items():
        sizes = iter(lambda: rng.randint(1, LINES), None)
        texts = [text for block in of_language for text in pieces(block, sizes)]
        rng.shuffle(texts)
        found += [(text, NAMES.index(name)) for text in texts[:PER_LANGUAGE]]
        print(f"{name}: {len(texts)} pieces, {min(len(texts), PER_LANGUAGE)} used", flush=True)
    return found


def test_set(size: int, seen: set[str]) -> list[tuple[str, int]]:
    """Return (text, language) of `size` lines each from files not trained on, without what was seen there too."""
    found = []
    for name, of_language in corpus(TEST_MODULES, TEST_HEADERS).items():
        whole = (block for block in of_language if len(block) >= size)
        texts = {text for block in whole for text in pieces(block, [size] * (len(block) // size))}
        found += [(text, NAMES.index(name)) for text in sorted(texts - seen)]
    return found


def train(examples: list[tuple[str, int]]) -> Snippets:
    """Train with a fixed seed; the same machine, Python and torch give the same weights."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the batches are so small that a second thread costs more than it brings
    model = Snippets().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(examples)).split(BATCH):
            texts = [examples[i] for i in chosen]
            batch, owners = windows([text for text, _ in texts])
            labels = torch.tensor([label for _, label in texts])[owners]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(texts)
        schedule.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {total / len(examples):.4f}", flush=True)
    return model.eval()


def count_right(model: Snippets, examples: list[tuple[str, int]]) -> dict[str, tuple[int, int]]:
    """Return (right, all) of each language, as the served model answers."""
    from processor import run_model  # noqa: PLC0415  (the server's own way of calling the model)

    best: list[int] = []
    with torch.no_grad():
        for start in range(0, len(examples), BATCH):
            best += run_model(model, [text for text, _ in examples[start : start + BATCH]]).argmax(1).tolist()
    hits = [(label, found == label) for (_, label), found in zip(examples, best, strict=True)]
    return {
        name: (sum(hit for label, hit in hits if label == i), sum(label == i for label, _ in hits))
        for i, name in enumerate(NAMES)
    }


def share(counts: dict[str, tuple[int, int]]) -> float:
    """Return the mean of the languages' accuracies: each language counts the same, however many lines it has."""
    return sum(right / total for right, total in counts.values()) / len(counts)


def export(model: Snippets, file: Path) -> None:
    """Write the program with both axes of any length; complete or not at all."""
    example = torch.ones(2, 40, dtype=torch.uint8)  # a batch of 1 would be taken for a constant
    axes = {0: torch.export.Dim("windows", min=1), 1: torch.export.Dim("bytes", min=1, max=WINDOW)}
    program = torch.export.export(model, (example,), dynamic_shapes=(axes,))
    part = file.with_name(f".part-{file.name}")
    torch.export.save(program, part)
    os.replace(part, file)


def write_expected() -> None:
    """Write what a server must answer to the texts in samples/, which were written for this."""
    folder = HERE / "samples"
    cases = []
    for name in NAMES:
        answer = {"class": name, "score": 1.0, "top": [{"class": name, "score": 1.0}]}
        expect = {"jsonData": {"predictions": [answer]}}
        cases.append({"request": {"strData": {"file": f"{name}.txt"}}, "expect": expect, "tolerance": 0.1})
    lines = ["int main() { return 0; }", "Return the number of lines that were read.", "import os, sys"]
    expect = {"jsonData": {"predictions": [{"class": name} for name in NAMES]}}
    cases.append({"request": {"data": {"ndarray": lines}}, "expect": expect})
    tagged = {"meta": {"tags": {"top_k": 3, "threshold": 1}}, "strData": "from here"}
    unsure = {"class": "unknown", "top": [{}, {}, {}]}
    cases.append({"request": tagged, "expect": {"jsonData": {"predictions": [unsure]}}})
    for tags, text in (({"top_k": 4}, "top_k is 4;"), ({"threshold": "high"}, "threshold is 'high';")):
        error = {"code": "INVALID_ARGUMENT", "text": text}
        cases.append({"request": {"meta": {"tags": tags}, "strData": lines[2]}, "error": error})
    cases.append({"request": {"strData": " "}, "error": {"code": "INVALID_ARGUMENT", "text": "empty"}})
    rows = ",\n".join(json.dumps(case) for case in cases)
    (folder / "expected.json").write_text(f"[\n{rows}\n]\n")


def main() -> None:
    """Train, test, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", action="store_true", help="write accuracy.json and expected.json anew, too")
    parser.add_argument("--out", type=Path, default=HERE / "model.pt2", help="where the model goes")
    options = parser.parse_args()
    examples = training_set(random.Random(SEED))
    model = train(examples)
    seen = {text for text, _ in examples}
    counts = {size: count_right(model, test_set(size, seen)) for size in (1, LINES)}
    accuracy = {size: share(count) for size, count in counts.items()}
    print(f"held-out lines right: {accuracy[1]:.4f}, pieces of {LINES} lines: {accuracy[LINES]:.4f}; {counts}")
    if accuracy[1] < LEAST_ACCURACY:
        raise SystemExit(f"accuracy {accuracy[1]:.4f} is below {LEAST_ACCURACY}: nothing written")
    export(model, options.out)
    print(f"wrote {options.out} ({options.out.stat().st_size} bytes)")
    if options.samples:
        figures: dict[str, object] = {"accuracy": round(accuracy[1], 4)}
        figures |= {f"right_lines_{name}": f"{right} of {total}" for name, (right, total) in counts[1].items()}
        figures |= {f"accuracy_of_{LINES}_lines": round(accuracy[LINES], 4), "train_pieces": len(examples)}
        figures |= {"python": platform.python_version()}
        figures |= {"torch": torch.__version__.partition("+")[0]}
        (HERE / "accuracy.json").write_text(json.dumps(figures, indent=1) + "\n")
        write_expected()


if __name__ == "__main__":
    main()
