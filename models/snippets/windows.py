"""How a text becomes what the model takes; shared by processor.py and make_model.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch

NAMES = ["cpp", "english", "python"]
WINDOW = 256
"""Most bytes that the model sees at once."""


def windows(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut texts into windows.

    Args:
        texts: at least one, none of them empty, without NUL, which is the padding.

    Returns: uint8 [w, b] with b <= WINDOW, each row the UTF-8 of a part of one text and 0 behind it; and int64 [w],
        which text each row is of. The windows of a text differ in length by one byte at most.
    """
    rows, owners = [], []
    for owner, text in enumerate(texts):
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        parts = data.tensor_split(-(-len(data) // WINDOW))
        rows += parts
        owners += [owner] * len(parts)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(owners)
