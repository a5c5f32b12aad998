"""Puts the base that `bench/base` trained into the box: `python tools/base.py [PROJECT]`.

Enters: the project's artifacts and records. Leaves, in `src/volant/bases/docstrings`: weights in bfloat16, tokenizer,
configuration, `manifest.json` (what went in, what was dropped, by which rule), `curve.svg`, and `base.json` with the
sha256 of each. The card there, `README.md`, is written by hand.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "volant" / "bases" / "docstrings"
TOKENIZER = ("chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")


def weights(model: Path) -> int:
    """Write the model in bfloat16; returns its parameters."""
    import torch

    from volant.nets.transformer import family

    net = family.load(model)
    parameters = sum(p.numel() for p in net.parameters())
    family.save(net.to(torch.bfloat16), TARGET)
    for name in TOKENIZER:
        shutil.copyfile(model / name, TARGET / name)
    (TARGET / "model.safetensors").chmod(0o644)
    return parameters


def dropped(data: Any) -> dict[str, dict[str, int]]:
    """How many records each rule dropped, by where they came from."""
    from volant.store.dataset import dropped as gone

    counts: dict[str, dict[str, int]] = {}
    for sample in gone(data):
        of = counts.setdefault(sample.group if sample.source.uri.startswith("pypi:") else "python", {})
        rule = str(sample.drop).split(":")[0]
        of[rule] = of.get(rule, 0) + 1
    return {name: dict(sorted(rules.items())) for name, rules in sorted(counts.items())}


def kept(data: Any) -> tuple[dict[str, int], list[str]]:
    """Records a source that are trained on, none of a held-out group, and the library's modules among them.

    Raises:
        SystemExit: a record of a held-out module or package is in the train split.
    """
    from volant.core.sample import split_of
    from volant.store.dataset import rows

    counts: dict[str, int] = {}
    modules: set[str] = set()
    for sample in rows(data, "train"):
        if split_of(sample.group) != "train":
            sys.exit(f"{sample.source.uri} is held out and stands in the train split")
        name = sample.group if sample.source.uri.startswith("pypi:") else "python"
        if name == "python":
            modules.add(sample.group)
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items())), sorted(modules)


def manifest(project: Any) -> dict[str, Any]:
    """Packages with version, licence, split and digest; what cleaning kept and dropped; held-out modules."""
    from volant.store.dataset import rows

    body: dict[str, Any] = {"rule": "sha256(name) mod 10: 0 is test, 1 is validation, the rest train; by module of the "
                                    "standard library, by package otherwise"}  # fmt: skip
    for step in ("packages", "documented"):
        body[step] = json.loads((project.artifact(step).path / "manifest.json").read_text(encoding="utf-8"))
    held: dict[str, set[str]] = {"test": set(), "validation": set()}
    sources: dict[str, Any] = {}
    for sample in rows(project.artifact("library")):
        if sample.split in held:
            held[sample.split].add(sample.group)
        own = sources.setdefault(sample.group, hashlib.sha256())
        own.update(hashlib.sha256(sample.text.encode()).digest())
    body["python"] = {
        "licence": "PSF-2.0",
        "version": platform.python_version(),
        "held_out": {split: sorted(names) for split, names in held.items()},
        "modules": {name: digest.hexdigest()[:16] for name, digest in sorted(sources.items())},
    }
    for step in ("text", "tasks"):
        data = project.artifact(step)
        counts, modules = kept(data)
        body["python"].setdefault("trained_on", {})[step] = modules
        leaks = json.loads((data.path / "leakage.json").read_text(encoding="utf-8"))
        body[step] = {
            "dataset": data.card.digest, "trained_on": counts, "dropped": dropped(data),
            "leakage": [{k: one[k] for k in ("name", "items", "found", "records")} for one in leaks["sets"]],
        }  # fmt: skip
    return body


def curve(points: dict[str, list[tuple[int, float]]], step_tokens: int) -> str:
    """Training and validation loss against million tokens."""
    width, height, left, low = 640, 300, 46, 264
    most = max(step for line in points.values() for step, _ in line)
    top, bottom = 8.0, float(min(value for _, value in points["validation_loss"]) // 1)
    drawn = []
    for name, colour in (("loss", "#9fb3c8"), ("validation_loss", "#0f7a55")):
        line = points.get(name, [])
        if name == "loss":  # the mean of sixteen
            line = [(line[i][0], sum(v for _, v in line[i - 15 : i + 1]) / 16) for i in range(15, len(line), 8)]
        at = " ".join(f"{left + (width - left - 12) * s / most:.1f},{low - (low - 16) * (v - bottom) / (top - bottom):.1f}" for s, v in line)  # fmt: skip  # noqa: E501
        drawn.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for value in range(int(bottom), int(top) + 1):
        y = low - (low - 16) * (value - bottom) / (top - bottom)
        drawn.append(
            f'<path d="M {left} {y:.1f} H {width - 12}" stroke="#8884" /><text x="8" y="{y + 4:.1f}">{value}</text>'
        )
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + (width - left - 12) * share
        drawn.append(f'<text x="{x:.0f}" y="284" text-anchor="middle">{most * share * step_tokens / 1e6:.1f}</text>')
    drawn.append(
        f'<text x="{left + 90}" y="34">nats a token over million tokens: training (grey), validation (green)</text>'
    )
    style = "text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #7a8699 }"
    inner = "\n".join(drawn)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    return f"{head}\n<style>{style}</style>\n{inner}\n</svg>\n"


def main() -> int:
    """Fill the box."""
    from volant.project import Project

    project = Project(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "bench" / "base"))
    model = project.artifact("base")
    TARGET.mkdir(parents=True, exist_ok=True)
    parameters = weights(model.path)
    (TARGET / "manifest.json").write_text(json.dumps(manifest(project), sort_keys=True, indent=0) + "\n")
    points = {
        name: [(step, value) for _, value, step in project.records.metrics(model.card.run, name)]
        for name in ("loss", "validation_loss")
    }
    about = json.loads((model.path / "volant.json").read_text(encoding="utf-8"))["extra"]
    (TARGET / "curve.svg").write_text(curve(points, about["tokens"] // about["steps"]))
    shutil.copyfile(ROOT / "LICENSE", TARGET / "LICENSE")
    names = [p for p in sorted(TARGET.iterdir()) if p.name not in ("README.md", "base.json")]
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in names}
    facts = {"licence": "Apache-2.0", "parameters": parameters, "tokens": about["tokens"], "files": digests}
    (TARGET / "base.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    print(f"{TARGET}: {parameters:,} parameters, {sum(p.stat().st_size for p in TARGET.iterdir()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
