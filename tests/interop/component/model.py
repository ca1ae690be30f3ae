"""A model of four weights: what is compared is what the servers make of requests and results, not a model."""

import torch


def Model() -> torch.nn.Module:
    return torch.nn.Linear(2, 2)
