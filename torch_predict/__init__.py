"""The PyTorch model server."""
