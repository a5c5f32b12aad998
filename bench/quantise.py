"""What int8 buys: torch float32 against CTranslate2 float32 and int8, on the same network.

    python bench/quantise.py [--depth 6] [--threads 1] [--out bench/quantise.json]

Prints and writes for each: bytes on disk, seconds to open, tokens a second (one request, and eight together, greedy,
median of three), seconds to the first token of a long prompt, and the largest difference of a log-probability to
torch in nats. The weights are random, which for speed and size is all the same and for the difference is the worst
case; what int8 costs a trained model is measured by `compress.quantise` each time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from volant.core.artifact import Card, Model, ModelAbout, payload_digest
from volant.core.protocols import Request, Session
from volant.core.run import Run
from volant.core.sample import Sample, Source
from volant.core.spaces import space_json
from volant.engines import open_model
from volant.modalities import open_modality
from volant.nets.transformer import family
from volant.stages.compress.quantise import _convert, _facts

VOCAB, LENGTH, TOKENS = 2048, 512, 64


def texts() -> list[Sample]:
    """The language reference, which every Python carries."""
    from pydoc_data.topics import topics

    source = Source(uri="python:pydoc_data.topics", licence="PSF-2.0")
    return [Sample(id=n, shape="text", source=source, content=t) for n, t in sorted(topics.items())]


def base(folder: Path, depth: int) -> Model:
    """A network with random weights, and a real tokenizer."""
    codec: Any = open_modality("text").codec(texts(), vocab=VOCAB, length=LENGTH)
    net = family.build(codec.space, seed=0, depth=depth, eos=codec.eos_id)
    torch.manual_seed(0)
    for weight in net.parameters():  # zero outputs of a fresh block would hide every rounding
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, 0.0, weight.size(1) ** -0.5)
    net.config.eos_token_id = net.generation_config.eos_token_id = None  # random weights must not stop early
    family.save(net, folder)
    codec.save(folder)
    about = ModelAbout(
        family="transformer", modality="text", space=space_json(codec.space),
        parameters=sum(p.numel() for p in net.parameters()),
    )  # fmt: skip
    (folder / "volant.json").write_text(about.model_dump_json())
    return Model(folder)


def converted(model: Model, folder: Path, bits: int) -> Model:
    """The same for CTranslate2, without the gate: random weights have no quality to lose."""
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    run = Run("bench", out, work)
    _convert(run, model, bits)
    codec: Any = open_modality("text").open_codec(model.path)
    codec.save(out)
    facts = _facts(model, codec, "int8" if bits == 8 else "float32")
    about = model.about.model_copy(update={"engine": "ctranslate2", "extra": {"ctranslate2": facts.json()}})
    (out / "volant.json").write_text(about.model_dump_json())
    digest, files = payload_digest(out)
    return Model(out, Card(kind="Model", digest=digest, files=files))


def rate(session: Session, together: int) -> float:
    """Tokens a second, the median of three rounds."""
    found = []
    for _ in range(3):
        requests = [Request(id=str(n), prompt=f"The value of {n}", max_tokens=TOKENS) for n in range(together)]
        begun = perf_counter()
        count = sum(chunk.completion_tokens for chunk in session.generate(requests) if chunk.finish)
        found.append(count / (perf_counter() - begun))
    return statistics.median(found)


def first_token(session: Session) -> float:
    """Seconds to the first token of a prompt that fills most of the context, the median of three."""
    found = []
    for _ in range(3):
        begun = perf_counter()
        list(session.generate([Request(id="a", prompt="value of the thing " * 200, max_tokens=1)]))
        found.append(perf_counter() - begun)
    return statistics.median(found)


def measure(model: Model, threads: int, reference: list[list[float]]) -> dict[str, Any]:
    """All figures of one model; `reference` is filled by the first one."""
    begun = perf_counter()
    session = open_model(model, threads=threads)
    opened = perf_counter() - begun
    pairs = [(Request(prompt="The "), s.text[:400]) for s in texts()[:4]]
    logprobs = session.logprobs(pairs)
    reference = reference or logprobs
    apart = max(abs(a - b) for x, y in zip(logprobs, reference, strict=True) for a, b in zip(x, y, strict=True))
    weights = [f for f in model.path.iterdir() if f.suffix in (".bin", ".safetensors")]
    figures = {
        "bytes": sum(f.stat().st_size for f in weights),
        "open_seconds": round(opened, 3),
        "tokens_per_second_1": round(rate(session, 1), 1),
        "tokens_per_second_8": round(rate(session, 8), 1),
        "first_token_seconds": round(first_token(session), 4),
        "largest_difference_nats": round(apart, 5),
    }
    session.close()
    return {"figures": figures, "logprobs": logprobs}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench/quantise.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        model = base(Path(place) / "base", chosen.depth)
        first = measure(model, chosen.threads, [])
        found["torch float32"] = first["figures"]
        for bits, name in ((32, "ctranslate2 float32"), (8, "ctranslate2 int8")):
            small = converted(model, Path(place) / name, bits)
            found[name] = measure(small, chosen.threads, first["logprobs"])["figures"]
        told = {
            "depth": chosen.depth,
            "parameters": model.about.parameters,
            "threads": chosen.threads,
            "engines": found,
        }
    for name, figures in found.items():
        print(f"{name:22}", "  ".join(f"{k} {v}" for k, v in figures.items()))
    chosen.out.write_text(json.dumps({**told, "engines": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
