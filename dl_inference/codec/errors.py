"""What a codec can fail with: an input that has no form, or a message that is none."""


class InputError(ValueError):
    """The protocol cannot carry this input. Nothing was sent; the message says what to pass instead."""


class BadTensorError(ValueError):
    """A tensor in a message is inconsistent: its shape, type and values do not fit together."""
