"""The contract of a modality: `check_modality(modality, samples, folder=...)`.

A modality and a few good samples of it enter. Its codec has to give back what it took, its files have to
be readable again, signatures and features have to mean something, pages must not run what the data
says, and the server has to build its routes from `api`. Text is continued, so its codec is a `Codec`; an
image or a row comes whole, from a `ContentCodec` (`testing.contents`). Poisoned files are in
`testing.poison`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from volant.core.artifact import Model, file_sha256, payload_digest
from volant.core.outside import OutsideFile
from volant.core.protocols import Chunk, Codec, Modality, Refusal, Route
from volant.core.sample import CONTENT_SHAPES, Sample, Source
from volant.core.spaces import Tokens, space_json
from volant.testing.contents import check_content_codec, check_route
from volant.testing.expecting import expect, same
from volant.testing.poison import Poisons, check_poison

FORMS = {"markdown": ".md", "html": ".html", "json": ".json"}
SOURCE = Source(uri="contract:", licence="CC0-1.0")
_SCRIPT = "<script>alert('x')</script>"


def check_modality(
    modality: Modality,
    samples: Sequence[Sample],
    *,
    folder: Path,
    codec: Mapping[str, Any] | None = None,
    forms: Mapping[str, str] = FORMS,
    lines: tuple[str, str] = ("jsonl", ".jsonl"),
    whole: Sequence[str] = ("json",),
    near: Callable[[Sample], Sample] | None = None,
    poisons: Poisons | None = None,
    tolerance: float = 0.0,
    huge_bytes: int = 40_000_000,
) -> None:
    """Hold a modality to its contract.

    Args:
        modality: the modality.
        samples: four or more different ones, with a few words each; the first two unlike each other.
        folder: an empty directory.
        codec: options of the codec's fit (`{"vocab": 320}`).
        forms: what `deliver` offers, with the ending under which `load` reads it.
        lines: the form that holds one record a line, with its ending; `("", "")` for none.
        whole: forms from which samples come back with all their fields.
        near: a near copy of a sample, as people make them (encoded anew, one cell changed); a word more for text.
        poisons: further files that have to be refused: what they are to (ending, content).
        tolerance: how far an encoded number may be from what it is after decoding and encoding again.
        huge_bytes: length of the line that is too long to be a record.
    """
    expect(len(samples) > 3, "check_modality needs four samples or more")
    for sample in samples:
        same(modality.check(sample), [], f"{modality.name} refuses a sample that the test holds to be good")
        expect(sample.shape in modality.shapes, f"{modality.name} does not state the shape {sample.shape!r}")
    _check_codec(modality, samples, folder, dict(codec or {}), tolerance)
    _check_likeness(modality, samples, near)
    _check_features(modality, samples)
    _check_preview(modality, samples)
    for form, ending in {**forms, **({lines[0]: lines[1]} if lines[0] else {})}.items():
        _check_delivery(modality, samples, folder, form, ending, form in whole or form == lines[0])
    check_poison(modality, samples, folder=folder, forms=forms, lines=lines, huge_bytes=huge_bytes, poisons=poisons)
    _check_names(modality)
    _check_routes(modality, samples, folder)


def _check_codec(
    modality: Modality, samples: Sequence[Sample], folder: Path, options: dict[str, Any], tolerance: float
) -> None:
    made, again = (modality.codec(samples, **options) for _ in range(2))
    for number, codec in enumerate((made, again)):
        codec.save(folder / f"codec{number}")
    first, second = (payload_digest(folder / f"codec{n}")[0] for n in (0, 1))
    same(second, first, f"{modality.name}: a codec fitted twice differs")
    opened = modality.open_codec(folder / "codec0")
    opened.save(folder / "codec2")
    same(payload_digest(folder / "codec2")[0], payload_digest(folder / "codec0")[0],
         f"{modality.name}: an opened codec saves other files")  # fmt: skip
    same(space_json(opened.space), space_json(made.space), f"{modality.name}: an opened codec has another space")
    expect(made.space.type in modality.spaces(), f"{modality.name} does not offer the space {made.space.type}")
    if samples[0].shape in CONTENT_SHAPES:
        check_content_codec(modality, made, opened, samples, tolerance)
        return
    asked = [{"role": "user", "content": samples[0].text}]
    same(opened.encode_prompt(asked), made.encode_prompt(asked), f"{modality.name}: an opened codec asks otherwise")
    for sample in samples:
        _check_sample(modality, made, opened, sample)


def _check_sample(modality: Modality, made: Codec, opened: Codec, sample: Sample) -> None:
    encoded = made.encode(sample)
    same(opened.encode(sample), encoded, f"{modality.name}: an opened codec encodes {sample.id} otherwise")
    same(len(encoded.mask), len(encoded.ids), f"{modality.name}: ids and mask of {sample.id} differ in length")
    expect(any(encoded.mask), f"{modality.name}: the loss counts nothing of {sample.id}")
    if isinstance(made.space, Tokens):
        vocab = made.space.vocab
        expect(all(0 <= i < vocab for i in encoded.ids), f"{modality.name}: {sample.id} has ids outside of {vocab}")
    for text in (sample.text, "Größe: 東京 🙂\n\ttab  two"):
        same(made.decode(made.encode_text(text)), text, f"{modality.name}: the codec does not give a text back")
    learnt = made.decode([i for i, counted in zip(encoded.ids, encoded.mask, strict=True) if counted])
    answer = sample.target or sample.content or ""
    if sample.shape in ("text", "completion"):
        expect(answer in learnt, f"{modality.name}: the loss of {sample.id} counts {learnt!r} and not its answer")
    if sample.shape == "completion" and (sample.condition or "")[:40] not in answer:
        expect(
            (sample.condition or "")[:40] not in learnt, f"{modality.name}: the loss of {sample.id} counts its prompt"
        )


def _check_likeness(modality: Modality, samples: Sequence[Sample], near: Callable[[Sample], Sample] | None) -> None:
    first = samples[0]
    if first.shape not in CONTENT_SHAPES:
        first = first.model_copy(update={"shape": "text", "content": "\n".join(s.text for s in samples),
                                         "condition": None, "target": None, "rejected": None})  # fmt: skip
        near = near or (lambda sample: sample.model_copy(update={"content": f"{sample.content} end"}))
    expect(near, f"check_modality needs `near` for samples of the shape {first.shape!r}")
    assert near is not None
    copy = near(first)
    signature = list(modality.fingerprint(first))
    same(list(modality.fingerprint(first.model_copy(update={"id": "other"}))), signature,
         f"{modality.name}: the signature of the same content differs")  # fmt: skip
    lengths = {len(modality.fingerprint(s)) for s in (*samples, copy)}
    same(lengths, {len(signature)}, f"{modality.name}: signatures differ in length")
    alike, apart = (_share(signature, modality.fingerprint(other)) for other in (copy, samples[1]))
    expect(alike >= 0.7, f"{modality.name}: a small change makes the signature {alike:.2f} alike only")
    expect(apart <= 0.6 and apart < alike, f"{modality.name}: other content has a signature {apart:.2f} alike")


def _share(left: Sequence[int], right: Sequence[int]) -> float:
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)


def _check_features(modality: Modality, samples: Sequence[Sample]) -> None:
    import numpy as np

    matrix = modality.features(samples)
    same(matrix.shape[0], len(samples), f"{modality.name}: features have to be one row a sample")
    same((matrix.ndim, str(matrix.dtype)), (2, "float32"), f"{modality.name}: features have to be a float32 matrix")
    expect(np.isfinite(matrix).all(), f"{modality.name}: features are not finite")
    expect(np.array_equal(matrix, modality.features(samples)), f"{modality.name}: features change from call to call")
    alone = np.concatenate([modality.features([s]) for s in samples])
    expect(np.allclose(matrix, alone, atol=1e-6), f"{modality.name}: features depend on what else is in the batch")
    expect(len(np.unique(matrix, axis=0)) > 1, f"{modality.name}: all samples have the same features")
    same(modality.features([]).shape, (0, matrix.shape[1]), f"{modality.name}: features of no sample")


def _check_preview(modality: Modality, samples: Sequence[Sample]) -> None:
    hostile = _hostile(samples[0])
    if hostile is not None:
        shown = modality.preview([hostile, *samples[1:3]])
        expect("<script" not in shown.lower(), f"{modality.name}: a preview runs what the data says")
        expect("alert" in shown, f"{modality.name}: a preview leaves text out instead of escaping it")
    expect(modality.preview(samples[:2]) == modality.preview(samples[:2]), f"{modality.name}: previews differ")


def _hostile(sample: Sample) -> Sample | None:
    """The sample with a script in its texts; None where it has none."""
    if sample.shape == "row":
        row = json.loads(sample.content or "{}")
        texts = {name: _SCRIPT for name, value in row.items() if isinstance(value, str)}
        return sample.model_copy(update={"content": json.dumps({**row, **texts})}) if texts else None
    fields = [name for name in ("content", "condition", "target") if getattr(sample, name)]
    if sample.shape == "messages" or not fields:
        return None
    return sample.model_copy(update=dict.fromkeys(fields, _SCRIPT))


def read(modality: Modality, file: Path) -> list[Sample | Refusal]:
    """What the modality finds in a file."""
    about = OutsideFile(file, file.name, file.stat().st_size, file_sha256(file))
    return list(modality.load(about, SOURCE))


def _check_delivery(
    modality: Modality, samples: Sequence[Sample], folder: Path, form: str, ending: str, fields: bool
) -> None:
    file = folder / f"delivered{ending}"
    file.write_bytes(modality.deliver(samples, form))
    same(modality.deliver(samples, form), file.read_bytes(), f"{modality.name}: two deliveries as {form} differ")
    found = read(modality, file)
    refused = [r for r in found if isinstance(r, Refusal)]
    expect(not refused, f"{modality.name} cannot read what it delivered as {form}: {refused}")
    kept = [s for s in found if isinstance(s, Sample)]
    expect(kept, f"{modality.name} finds nothing in what it delivered as {form}")
    for sample in kept:
        same(modality.check(sample), [], f"{modality.name} refuses what it delivered as {form}")
    if fields:
        same(
            [_said(s) for s in kept],
            [_said(s) for s in samples],
            f"{modality.name}: samples come back from {form} changed",
        )
    if samples[0].shape not in CONTENT_SHAPES:
        said = " ".join("\n".join(s.text for s in kept).split())
        for sample in samples:
            part = " ".join((sample.target or sample.content or "").split())
            expect(part in said, f"{modality.name}: {form} lost the content of {sample.id}")
    file.write_bytes(modality.deliver(samples[:1], form))
    alone = [s for s in read(modality, file) if isinstance(s, Sample) and not modality.check(s)]
    same(len(alone), 1, f"{modality.name}: what one sample gives as {form} is read as so many")


def _said(sample: Sample) -> tuple[object, ...]:
    """What a sample says; a row as its values, however its JSON is spaced."""
    content = json.loads(sample.content) if sample.shape == "row" and sample.content else sample.content
    return (sample.shape, content, sample.condition, sample.target, sample.rejected, sample.media)


def _check_names(modality: Modality) -> None:
    from volant import nets, scorers

    expect(modality.name.isidentifier() and modality.version >= 1, f"{modality.name!r}: name and version")
    for name, (family, size) in modality.baselines().items():
        found = family in {m.stem for p in nets.__path__ for m in Path(p).glob("*.py")}
        expect(
            found and isinstance(size, dict), f"{modality.name}: the baseline {name} names no module of nets: {family}"
        )
    same(set(scorers.build(list(modality.scorers()))), set(modality.scorers()), f"{modality.name}: its scorers")


class _Echo:
    """A session that answers at once; routes are what is tried, not answers."""

    context = 64

    def generate(self, requests: Sequence[Any]) -> Any:
        """One chunk a request."""
        for request in requests:
            yield Chunk(request.id, "ok", "stop", 1, 1)

    def logprobs(self, pairs: Sequence[Any]) -> list[list[float]]:
        """None."""
        raise NotImplementedError

    def cancel(self, id: str) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is held."""


def _check_routes(modality: Modality, samples: Sequence[Sample], folder: Path) -> None:
    """The application has every route of `api`."""
    from volant.serving.app import create_app
    from volant.serving.service import Fixed, Service

    routes = dict(modality.api())
    expect(routes and all(path.startswith("/") for path in routes), f"{modality.name} offers no routes: {routes}")
    for path, route in routes.items():
        if isinstance(route, Route):
            check_route(modality, path, route, samples)
    place = folder / "served"
    place.mkdir()
    (place / "volant.json").write_text(f'{{"family": "none", "modality": "{modality.name}"}}')
    service = Service(Fixed(Model(place)), open=lambda model, prompt: _Echo(), routes=routes)
    try:
        offered = create_app(service).openapi()["paths"]
    except Exception as error:
        raise AssertionError(f"the server cannot build the routes of {modality.name}: {error}") from error
    finally:
        service.close()
    missing = sorted(path for path in routes if "post" not in offered.get(path, {}))
    expect(not missing, f"the server lacks the routes {missing} of {modality.name}")
