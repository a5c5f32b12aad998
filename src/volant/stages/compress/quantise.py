"""Make a model small: weights in 8 bits. Text gets fast too, run by CTranslate2.

Enters: a Model that torch runs and a Dataset whose validation split says what is lost. Leaves: a Model for the
engine `ctranslate2`, with the measured loss in its `volant.json`; or a refusal with the numbers, where more is
lost than was allowed. Both models are measured on the same samples, in the same way, and compared in pairs.
Models of images and tables keep their engine, `sampler`: see `content_weights.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Model, Run, Score
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError, GateRefused, SettingError
from volant.core.sample import Sample, spread

_SAME = 1e-3  # bits a byte that float32 weights may differ by in another runtime


def quantise(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    bits: Literal[8, 32] = 8,
    loss: Annotated[float, Field(ge=0, le=1)] = 0.05,
    metric: str = "",
    limit: Annotated[int, Field(ge=1, le=10_000)] = 64,
) -> Model:
    """Convert a model to int8 and state what it costs, or refuse.

    Args:
        run: seed, threads, where to write.
        model: a transformers model (Qwen3, Llama, Mistral and most other decoders) with safetensors, or a network
            of images or tables.
        data: its validation split is measured on; nothing is trained.
        judge: a model that the metric asks, where it needs one.
        bits: of each weight; 8 is about a quarter of the size, 32 only changes the runtime (of text) and loses nothing.
        loss: the share of quality that may be lost (0.05: bits per byte at most 5 % higher, and the task metric
            not significantly more than 5 % worse); more is refused.
        metric: for images and tables, a scorer; empty takes the first of the modality's gates.
        limit: how many validation samples are measured; more narrow the intervals and take longer.

    Raises:
        GateRefused: more is lost than `loss`; the message holds the numbers.
        SettingError: the model is of another engine, or an architecture that the converter does not know.
    """
    from volant.engines import open_model
    from volant.engines.ctranslate2 import CTranslate2Session
    from volant.modalities import open_modality
    from volant.scorers.measure import bits_per_byte, check_task
    from volant.stages.compress.content_weights import quantised

    if model.about.engine == "sampler":
        return quantised(run, model, data, judge=judge, bits=bits, loss=loss, metric=metric, limit=limit)
    samples = _samples(data, limit)
    codec: Any = open_modality(model.about.modality).open_codec(model.path)
    small_bytes, big_bytes = _convert(run, model, bits)
    codec.save(run.out)
    facts = _facts(model, codec, "int8" if bits == 8 else "float32")
    before = open_model(model, threads=run.threads, device=run.device)
    try:
        after = CTranslate2Session(run.out, codec, facts, threads=run.threads, device=run.device)
        try:
            run.check_stop()
            bits_before, bits_after = (bits_per_byte(session, samples) for session in (before, after))
            lost = _state_bits(run, bits_before, bits_after)
            run.check_stop()
            task = check_task(run, after, data, before=model, before_session=before, limit=limit)
            _state_speed(run, before, after, samples)
        finally:
            after.close()
    finally:
        before.close()
    run.score(Score.exact("size_ratio", small_bytes / big_bytes, direction="lower", note="bytes of weights, to before"))
    apart = max(abs(a - b) for a, b in zip(bits_before, bits_after, strict=True))
    if bits == 32 and not apart <= _SAME:
        text = f"float32 weights in another runtime differ by {apart:.2g} bits a byte from what they were"
        raise _refused(f"{text}, and nothing may be lost there", loss)
    if lost > loss:
        text = f"bits per byte rose by {lost:.1%} (from {_mean(bits_before):.3f} to {_mean(bits_after):.3f})"
        raise _refused(f"{text}, more than the stated loss of {loss:.1%}", loss)
    if task is not None and task.verdict == "worse" and _fall(task.before, task.after) > loss:
        text = f"{task.name} went from {task.before:.3f} to {task.after:.3f} (p = {task.p:.2g}, n = {task.n})"
        raise _refused(f"{text}, more than the stated loss of {loss:.1%}", loss)
    stated = {
        "bits": bits,
        "allowed_loss": loss,
        "size_ratio": round(small_bytes / big_bytes, 4),
        "bits_per_byte": [round(_mean(bits_before), 5), round(_mean(bits_after), 5)],
        "samples": len(samples),
    }
    extra = {**model.about.extra, "ctranslate2": facts.json(), "quantisation": stated}
    about = ModelAbout.model_validate({**model.about.model_dump(), "engine": "ctranslate2", "extra": extra})
    (run.out / "volant.json").write_text(about.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return Model(run.out)


def _samples(data: Dataset, limit: int) -> list[Sample]:
    """Task samples where there are any, else plain texts."""
    from volant.scorers.measure import task_samples
    from volant.store.dataset import rows

    found = task_samples(data, "validation", limit)
    if not found:
        found = spread((s for s in rows(data, "validation") if s.shape == "text" and s.content), limit)
    if not found:
        fix = "Add a collect.split step, or samples with answers."
        raise DataError("the validation split holds nothing to measure the loss on.", fix=fix)
    return found


def _convert(run: Run, model: Model, bits: int) -> tuple[int, int]:
    """Write CTranslate2's three files into `run.out`; the weights' bytes after and before."""
    import shutil

    from ctranslate2.converters import TransformersConverter
    from transformers.utils import logging

    from volant.nets.transformer import check_files

    if model.about.engine != "torch":
        what = f"quantise takes a model that torch runs, not one for {model.about.engine!r}"
        raise SettingError(what, where="model", fix="Name the step that made the unconverted model.")
    check_files(model.path)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    place = run.work / "converted"
    try:
        TransformersConverter(str(model.path)).convert(
            str(place), quantization="int8" if bits == 8 else "float32", force=True
        )
    except (ValueError, NotImplementedError, AttributeError) as error:
        first = str(error).split("\n", maxsplit=1)[0][:300]
        raise SettingError(f"CTranslate2 cannot convert this model: {first}", where="model") from error
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    for file in sorted(place.iterdir()):
        shutil.move(file, run.out / file.name)
    big = sum(file.stat().st_size for file in model.path.glob("*.safetensors"))
    return (run.out / "model.bin").stat().st_size, big


def _facts(model: Model, codec: Any, compute: str) -> Any:
    """What CTranslate2's files leave out, read from the model's own configuration."""
    from volant.engines.ctranslate2 import Facts

    config = model.read_json("config.json")
    generation = model.read_json("generation_config.json") if (model.path / "generation_config.json").is_file() else {}
    stops = {int(i) for i in getattr(codec, "stop_ids", ())}
    for value in (config.get("eos_token_id"), generation.get("eos_token_id")):
        stops.update([value] if isinstance(value, int) else value or [])
    context = int(config.get("max_position_embeddings") or codec.space.length)
    start = config.get("bos_token_id")
    start = start if isinstance(start, int) else min(stops, default=None)
    return Facts(context, start, tuple(sorted(stops)), compute)


def _state_bits(run: Run, before: list[float], after: list[float]) -> float:
    """Score bits per byte and its change; the share by which it rose."""
    from volant.scorers.compare import paired
    from volant.scorers.measure import mean_score

    run.score(mean_score("bits_per_byte", after, unit="bits", direction="lower", note="validation"))
    run.score(paired("bits_per_byte", before, after, direction="lower", unit="bits").change)
    return _mean(after) / max(_mean(before), 1e-9) - 1


def _state_speed(run: Run, before: Any, after: Any, samples: list[Sample]) -> None:
    """Tokens a second of both on the same prompts, the better of two rounds; a measurement, so never payload."""
    from time import perf_counter

    from volant.scorers.measure import answers

    rates = []
    for session in (before, after):
        best = 0.0
        for _ in range(2):
            begun = perf_counter()
            outputs = answers(session, samples[:8], max_tokens=24)
            best = max(best, sum(o.completion_tokens for o in outputs) / max(perf_counter() - begun, 1e-9))
        rates.append(best)
    note = f"{rates[1]:.0f} tokens/s to {rates[0]:.0f}, greedy, up to 8 together, {run.threads} threads"
    run.score(Score.exact("speed_ratio", rates[1] / max(rates[0], 1e-9), n=min(8, len(samples)), note=note))


def _fall(before: float, after: float) -> float:
    """The share by which the task metric got worse, whichever way is better."""
    return abs(after - before) / max(abs(before), 1e-9)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _refused(what: str, loss: float) -> GateRefused:
    fix = f"Allow more (loss: {min(1.0, 2 * loss):g}), keep bits: 32, or serve the unconverted model."
    return GateRefused(what + ".", where="compress.quantise", fix=fix)
