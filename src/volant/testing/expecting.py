"""How the contract suites speak: an `AssertionError` with one clear sentence, without a test framework.

Something that has to hold enters with the sentence that says it does not; nothing leaves, or the error.
Plain `assert` is not used, because `python -O` would turn a certificate into a formality.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from volant.core.errors import Interrupted, VolantError

T = TypeVar("T")


def expect(holds: object, sentence: str) -> None:
    """Raise `AssertionError` with the sentence unless it holds."""
    if not holds:
        raise AssertionError(sentence)


def same(found: object, wanted: object, sentence: str) -> None:
    """Like `expect(found == wanted)`, with both values put behind the sentence."""
    expect(found == wanted, f"{sentence}: {_short(found)} instead of {_short(wanted)}")


def refusal(call: Callable[[], Any], sentence: str, *, kind: type[VolantError] = VolantError) -> VolantError:
    """The error with which the call refuses.

    Raises:
        AssertionError: it does not, or with an error of another kind, or one that names no fix.
    """
    found = outcome(call, sentence)
    expect(isinstance(found, kind), f"{sentence}, but {_seen(found)} came instead of {kind.__name__}")
    return found


def outcome(call: Callable[[], T], sentence: str) -> T | VolantError:
    """What the call returned, or the `VolantError` with a fix that it raised; anything else is a failure."""
    try:
        return call()
    except Interrupted:
        raise
    except VolantError as error:
        expect(error.fix, f"{sentence}, but the error names no fix: {error}")
        return error
    except Exception as error:
        raise AssertionError(f"{sentence}, but {_seen(error)} was raised") from error


def _seen(found: object) -> str:
    return f"{type(found).__name__} ({_short(found)})" if isinstance(found, Exception) else _short(found)


def _short(value: object, most: int = 300) -> str:
    text = value if isinstance(value, str) else repr(value) if not isinstance(value, Exception) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
