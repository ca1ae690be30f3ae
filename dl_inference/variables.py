"""How our environment variables are called. Which ones there are is said where they are read."""

PREFIX = "DL_INFERENCE_"


def variable(setting: str) -> str:
    """Return the variable of a setting: ``DL_INFERENCE_TORCH_THREADS`` of ``torch_threads``."""
    return f"{PREFIX}{setting.upper()}"
