"""The contract of what is no text: content codecs (images, rows) and the server's routes for them.

A fitted `ContentCodec`, the same one opened from disk, and good samples enter. What it decodes has to be a
good sample that encodes to the same numbers again; what it is asked for in words has to become ids of its
space, or a refusal that says what is known. A `Route` has to hold its promises with these samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from volant.core.errors import DataError
from volant.core.protocols import ContentCodec, Modality, Route
from volant.core.sample import Sample
from volant.core.spaces import Encoded, Example, Grid, Mixed, Tokens
from volant.testing.expecting import expect, outcome, refusal, same

_UNHEARD = "zqx vrmpf 40417"


def check_content_codec(
    modality: Modality, made: ContentCodec, opened: ContentCodec, samples: Sequence[Sample], tolerance: float
) -> None:
    """Hold a codec to its contract.

    Args:
        modality: whose codec it is.
        made: the codec as it was fitted.
        opened: the same one, saved and opened.
        samples: what it was fitted on.
        tolerance: how far a number may be from what it is after decoding and encoding again, relative and absolute.
    """
    name = modality.name
    for sample in samples:
        words = sample.condition or ""
        values = _numbers(name, made, opened, sample)
        back = made.decode(values, words)
        same(modality.check(back), [], f"{name} refuses what its codec decoded from {sample.id}")
        same(back.source.origin, "generated", f"{name}: the origin of a decoded sample")
        expect(_close(_values(made.encode(back)), values, tolerance),
               f"{name}: {sample.id} has other numbers after decoding and encoding again")  # fmt: skip
        for asked in (words, ""):
            expect(made.fits(back, asked), f"{name}: {sample.id} does not fit {asked!r}, which it was decoded for")
            same(opened.condition(asked), made.condition(asked), f"{name}: an opened codec is asked otherwise")
            _check_ids(name, made, made.condition(asked))
    same(tuple(made.condition("")), (), f"{name}: what is not asked for has condition ids")
    ids = outcome(
        lambda: made.condition(_UNHEARD), f"{name} has to refuse a condition that nobody can know, or take it"
    )
    if not isinstance(ids, DataError):
        expect(isinstance(ids, Sequence), f"{name} answers an unknown condition with {type(ids).__name__}")
        _check_ids(name, made, ids)  # type: ignore[arg-type]
    _check_junk(name, made)


def _numbers(name: str, made: ContentCodec, opened: ContentCodec, sample: Sample) -> Any:
    """The encoded sample, held against the space."""
    import numpy as np

    encoded, space = made.encode(sample), made.space
    values = _values(encoded)
    expect(_close(_values(opened.encode(sample)), values, 0), f"{name}: an opened codec encodes {sample.id} otherwise")
    if isinstance(space, Tokens):
        assert isinstance(encoded, Encoded)
        same(len(encoded.mask), len(encoded.ids), f"{name}: ids and mask of {sample.id} differ in length")
        expect(any(encoded.mask), f"{name}: the loss counts nothing of {sample.id}")
        expect(len(encoded.ids) <= space.length, f"{name}: {sample.id} is longer than its space")
        ranges = getattr(made, "ranges", ((0, space.vocab),) * len(encoded.ids))
        inside = [low <= i < high for i, (low, high) in zip(encoded.ids, ranges, strict=False)]
        expect(all(inside), f"{name}: {sample.id} has ids outside of their ranges")
        return values
    assert isinstance(encoded, Example)
    array = np.asarray(values)
    _check_ids(name, made, encoded.condition)
    if isinstance(space, Grid):
        same(array.shape, (space.channels, *space.dims), f"{name}: the shape of {sample.id}")
        expect(bool((np.abs(array) <= 1).all()), f"{name}: {sample.id} has numbers outside of -1 to 1")
        return values
    same(array.shape, (len(space.columns),), f"{name}: the shape of {sample.id}")
    for value, (column, about) in zip(array, space.columns.items(), strict=True):
        if np.isnan(value):
            expect(about.missing, f"{name}: {sample.id} lacks {column}, which is never missing")
        elif about.kind == "categorical":
            expect(0 <= value < about.categories, f"{name}: {sample.id} has category {value} of {column}")
    return values


def _values(encoded: Encoded | Example) -> Any:
    return encoded.ids if isinstance(encoded, Encoded) else encoded.values


def _close(found: Any, wanted: Any, tolerance: float) -> bool:
    import numpy as np

    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    return found.shape == wanted.shape and np.allclose(found, wanted, tolerance, tolerance, equal_nan=True)


def _check_ids(name: str, codec: ContentCodec, ids: Sequence[int]) -> None:
    if isinstance(codec.space, Grid):
        bound, most = codec.space.conditions, codec.space.condition_length
        inside = len(ids) <= most and all(0 <= i < bound for i in ids)
        expect(inside, f"{name}: a condition has the ids {tuple(ids)}; up to {most} below {bound} are in its space")


def _check_junk(name: str, codec: ContentCodec) -> None:
    import numpy as np

    space = codec.space
    junk: dict[str, Any] = {"no numbers": []}
    if isinstance(space, Tokens):
        junk["ids outside of the vocabulary"] = [space.vocab + 7] * space.length
    else:
        junk["numbers of another shape"] = np.zeros((2, 3, 5, 7, 2))
    if isinstance(space, Grid):
        junk["numbers that are none"] = np.full((space.channels, *space.dims), np.nan)
    if isinstance(space, Mixed):
        junk["a number too many"] = np.zeros(len(space.columns) + 1)
    for said, values in junk.items():
        refusal(partial(codec.decode, values), f"{name} has to refuse to decode {said}", kind=DataError)


def check_route(modality: Modality, path: str, route: Route, samples: Sequence[Sample]) -> None:
    """Hold a route to its contract: bodies bounded, answers in JSON, nothing learnt from junk."""
    from pydantic import ValidationError

    body = route.body.model_validate(dict(route.example))
    try:
        route.body.model_validate({**route.example, "no_such_field": 1})
    except ValidationError:
        pass
    else:
        raise AssertionError(f"{path} takes a field that it does not know")
    unbounded = sorted(set(_unbounded(route.body.model_json_schema(), "")))
    expect(not unbounded, f"{path} does not bound the numbers {', '.join(unbounded)}")
    condition, controls, n = route.asked(body)
    expect(isinstance(condition, str) and isinstance(controls, dict) and n >= 1, f"{path}: what its example asks for")
    answer = route.answer(samples[:n], body)
    try:
        sent = json.loads(json.dumps(answer, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the answer of {path} is no JSON: {error}") from error
    same(route.answer(samples[:n], body), answer, f"{path}: two answers with the same samples differ")
    for sample in route.taught(dict(route.example), sent):
        same(modality.check(sample), [], f"{modality.name} refuses what {path} teaches")
    junk: tuple[dict[str, Any], ...] = ({}, {"data": "junk"}, {"data": [{"b64_json": "!"}, None]}, {"rows": [None]})
    for said in junk:
        sentence = f"{path} has to pass over a broken answer"
        learnt = outcome(partial(route.taught, dict(route.example), said), sentence)
        same(learnt, [], f"{path} learns from a broken answer")


def _unbounded(schema: Any, name: str) -> Iterator[str]:
    """The fields of a JSON Schema that take any number."""
    if isinstance(schema, list):
        for part in schema:
            yield from _unbounded(part, name)
    if not isinstance(schema, Mapping):
        return
    if schema.get("type") in ("integer", "number") and not {"const", "enum"} & schema.keys():
        ends = ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"})
        if not all(end & schema.keys() for end in ends):
            yield name
    for key, part in schema.items():
        if key in ("properties", "$defs"):
            for field, inner in part.items():
                yield from _unbounded(inner, field)
        else:
            yield from _unbounded(part, name)
