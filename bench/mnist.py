"""MNIST at 28x28 by a flow over latents: digits that a reader names at sight, and all four figures of one set.

    python bench/mnist.py [--data ../shared/data] [--seed 0] [--threads 2] [--out bench/mnist.json]

The wheel's own methods in a folder of their own: 10,000 pictures with two black pixels around them (32 x 32, which
halves to latents of 8 x 8), split by hash; a judge; a VAE with a map of latents; a flow over that map. One set of 1,000
pictures, a hundred of each class, drawn at one guidance, is measured by the product's scorers against test pictures
of the same classes, beside a Gaussian of the pixels of each class and noise. The bench is void unless the judge is
right on 98 % of the test split and the Gaussian has a Fréchet ratio of 2.5 or more, noise one of 40 or more.
Also written: `mnist.png`, ten rows of ten, the first of each class, unpicked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FIGURES = ("frechet_ratio", "recall", "nearest_ratio", "class_accuracy")
VOID = {"judge": 0.98, "gaussian": 2.5, "noise": 40.0}
EACH = 100
PROJECT = """volant: 1
name: mnist
goal: {problem: Draw a handwritten digit, modality: image, metric: class_accuracy, baseline: gaussian}
steps: {brief: {use: plan.brief}}
"""


def cpu_seconds() -> float:
    """Process CPU time, children counted."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def unpack(source: Path, target: Path) -> None:
    """The ten thousand pictures with their labels as one NumPy archive."""
    pictures = gzip.decompress((source / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((source / "t10k-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pictures, np.uint8, offset=16).reshape(-1, 28, 28)
    names = np.frombuffer(labels, np.uint8, offset=8).astype("U1")
    np.savez(target, images=np.pad(images, ((0, 0), (2, 2), (2, 2))), labels=names)


def build(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Data, judge, autoencoder, flow and Gaussian, each by its method; what each took in CPU and wall seconds."""
    import volant
    from volant.stages import collect, pretrain

    (folder / "volant.yaml").write_text(PROJECT)
    project = volant.Project(folder, threads=chosen.threads)
    spent: dict[str, Any] = {}

    def timed(name: str, method: Any, *inputs: Any, **settings: Any) -> Any:
        cpu, wall = cpu_seconds(), time.monotonic()
        found = project.step(name, seed=chosen.seed).run(method, *inputs, **settings)
        spent[name] = {"cpu": round(cpu_seconds() - cpu, 1), "wall": round(time.monotonic() - wall, 1)}
        print(f"{name:8} {spent[name]['cpu']:7.1f} CPU s {spent[name]['wall']:7.1f} s", flush=True)
        return found

    data = timed("data", collect.files, glob="mnist.npz", licence="CC-BY-SA-3.0")
    judge = timed("judge", pretrain.judge, data, steps=chosen.judge_steps)
    vae = timed(
        "vae", pretrain.fit, data, family="vae", judge=judge, steps=chosen.vae_steps,
        size={"latent_channels": chosen.channels, "down": 2, **json.loads(chosen.vae_size)},
    )  # fmt: skip
    flow = timed(
        "flow", pretrain.fit, data, family="flow", latent=vae, judge=judge, steps=chosen.steps, batch=chosen.batch,
        size=json.loads(chosen.size), controls={"steps": 20, "guidance": chosen.guidance},
    )  # fmt: skip
    gaussian = timed("gaussian", pretrain.fit, data, family="gaussian", judge=judge)
    return {"data": data, "judge": judge, "flow": flow, "gaussian": gaussian, "vae": vae, "spent": spent}


def references(data: Any) -> list[Any]:
    """Test pictures, as many of each class."""
    from volant.store.dataset import rows

    left = dict.fromkeys("0123456789", EACH)
    found = []
    for sample in rows(data, "test"):
        if left[sample.condition] > 0:
            left[sample.condition] -= 1
            found.append(sample)
    return sorted(found, key=lambda s: s.condition)


def drawn(model: Any, samples: list[Any], threads: int) -> list[Any]:
    """One output for each reference, asked for by its class."""
    from volant.engines.sampler import engine
    from volant.scorers.measure import answers

    session = engine.open(model, threads=threads)
    try:
        return answers(session, samples)
    finally:
        session.close()


def noise(samples: list[Any]) -> list[Any]:
    """Pictures of nothing."""
    from volant.core.protocols import Output, Request
    from volant.modalities.image_pixels import image_sample

    draw = np.random.default_rng(0)
    found = []
    for sample in samples:
        pixels = draw.integers(0, 256, (32, 32, 1)).astype(np.uint8)
        made = image_sample(pixels, sample.source, condition=sample.condition)
        found.append(Output(text="", request=Request(prompt=sample.condition), sample=made))
    return found


def judged(made: dict[str, Any], samples: list[Any], outputs: list[Any]) -> dict[str, Any]:
    """The four figures of one set, with their intervals."""
    from volant.scorers import build as scorers
    from volant.store.dataset import rows

    given = {"judge": made["judge"], "training": list(rows(made["data"], "train"))}
    told = {}
    for name, scorer in scorers(list(FIGURES), given).items():
        score = next(s for s in scorer.score(outputs, samples) if s.name == name)
        told[name] = [round(score.value, 3), round(score.low, 3), round(score.high, 3)]
    return told


def picture(outputs: list[Any], file: Path) -> None:
    """Ten rows of ten: the first pictures of each class, as they came."""
    from volant.modalities.image_pixels import pixels

    tiles: dict[str, list[Any]] = {}
    for output in outputs:
        tiles.setdefault(output.request.prompt, []).append(pixels(output.sample)[..., 0])
    grid = np.concatenate([np.concatenate(tiles[c][:10], axis=1) for c in sorted(tiles)], axis=0)
    Image.fromarray(grid).resize((640, 640), Image.Resampling.NEAREST).save(file, optimize=True)


def main() -> None:
    """Train, draw, measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve()
    parser.add_argument("--data", type=Path, default=here.parents[2] / "shared" / "data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--judge-steps", type=int, default=300)
    parser.add_argument("--vae-steps", type=int, default=300)
    parser.add_argument("--vae-size", default='{"width": 8}', help="JSON, as the VAE names its sizes")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", default="{}", help="JSON, as the flow names its sizes")
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the project, kept between runs")
    parser.add_argument("--out", type=Path, default=here.with_suffix(".json"))
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    unpack(chosen.data / "mnist", folder / "mnist.npz")
    begun, cpu = time.monotonic(), cpu_seconds()
    made = build(folder, chosen)
    samples = references(made["data"])
    outputs = drawn(made["flow"], samples, chosen.threads)
    wall, used = time.monotonic() - begun, cpu_seconds() - cpu
    print(f"trained and drawn in {wall:.0f} s, {used:.0f} CPU s", flush=True)
    picture(outputs, chosen.out.with_suffix(".png"))
    sets = {
        "flow": outputs,
        "gaussian": drawn(made["gaussian"], samples, chosen.threads),
        "noise": noise(samples),
    }
    found: dict[str, Any] = {name: judged(made, samples, one) for name, one in sets.items()}
    real = [type(outputs[0])(text="", request=o.request, sample=s) for o, s in zip(outputs, samples, strict=True)]
    found["judge on real pictures"] = judged(made, samples, real)["class_accuracy"]
    for name, told in found.items():
        print(f"{name:10} {json.dumps(told)}")
    void = found["judge on real pictures"][0] < VOID["judge"] or any(
        found[name]["frechet_ratio"][0] < VOID[name] for name in ("gaussian", "noise")
    )
    body = {"n": len(samples), "sets": found, "void": void, "seconds": wall, "cpu_seconds": used, **made["spent"]}
    chosen.out.write_text(json.dumps(body, indent=2) + "\n")
    if chosen.keep is None:
        shutil.rmtree(folder)
    if void:
        raise SystemExit("void: the judge or the trivial rivals miss their bars")


if __name__ == "__main__":
    main()
