"""What a codec can fail with: an input that has no form, or a message that is none."""


class InputError(ValueError):
    """An input that the protocol has no form for; nothing was sent. The message says what to give instead."""


class BadTensorError(ValueError):
    """A tensor in a message that contradicts itself: its shape, type and values do not fit together."""
