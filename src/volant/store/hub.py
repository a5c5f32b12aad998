"""What the Hugging Face hub's client raises where the hub does not answer, or not with what was asked for."""

from __future__ import annotations


def hub_errors() -> tuple[type[Exception], ...]:
    """The kinds to catch around a call of `huggingface_hub`, which brings a web client of its own.

    Raises:
        ImportError: `huggingface_hub` is not installed.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # Its own error extends the client's; a connection that is refused raises the client's alone. No network and no
    # file in the cache are kinds of OSError.
    client = [kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError"]
    return (*client, HFValidationError, OSError)
