"""What models, clusters and labels may be called: one rule for configuration, registry and model folders."""

import re

# No separators and no leading dot: a name also becomes a metric label, a file's name and a node of the registry.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

NAME_RULE = "use letters, digits, '.', '_' and '-', at most 128, a letter or digit first"


def is_name(text: str) -> bool:
    """Tell whether a text may be the name of a model, a cluster or a label."""
    return NAME.fullmatch(text) is not None
