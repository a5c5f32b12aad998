"""Memory of full fine-tuning, LoRA and QLoRA, on a transformer of about 180 million weights that nobody trained.

    python bench/tune_memory.py [--width 1024] [--depth 12] [--rank 12] [--out bench/tune_memory.json]

Each way trains three steps of 4 x 128 random tokens in a process of its own, through the product's loop. Told: bytes of
the weights while they train, of the optimiser's two moments, and the process's peak beyond what it held before the
weights were made. The bars: LoRA's optimiser at most 1/20 of full's, QLoRA's weights at most 1/4 (of the matrices that
it puts into 4 bits; embeddings, norms and the head stay), and a peak that is lower in the same order.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
from pathlib import Path
from typing import Any

WAYS = ("full", "lora", "qlora")
OPTIMISER, WEIGHTS = 1 / 20, 1 / 4


def peak() -> int:
    """Peak resident bytes of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one_way(way: str, width: int, depth: int, rank: int, pipe: Any) -> None:
    """Train one way and send what it took; runs in a process of its own."""
    import numpy as np
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from volant.core.run import Run
    from volant.core.spaces import Encoded
    from volant.nets import nf4, state
    from volant.nets.batches import Padded
    from volant.nets.loop import train
    from volant.nets.recipe import Recipe
    from volant.stages.finetune import adapters

    torch.set_num_threads(1)
    began = peak()
    config = Qwen3Config(
        vocab_size=4096, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=depth,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, head_dim=64, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    net: Any = Qwen3ForCausalLM(config)
    matrices = [m for n, m in net.named_modules() if isinstance(m, torch.nn.Linear) and not n.endswith("lm_head")]
    inside = sum(m.weight.numel() for m in matrices)
    rest = nf4.weight_bytes(net) - 4 * inside
    del matrices
    if way == "qlora":
        nf4.quantise(net)
    held = nf4.weight_bytes(net)
    muon = 0.0
    if way != "full":
        config_of_adapters = adapters.config_of("lora", rank, 0.0, 0.0, "all-linear")
        net, muon = adapters._adapted(net, config_of_adapters), adapters.muon_rate(config_of_adapters, 1e-4)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    rng = np.random.default_rng(0)
    rows = [Encoded([int(i) for i in rng.integers(0, 4096, 128)], [True] * 128) for _ in range(12)]
    with tempfile.TemporaryDirectory() as place:
        run = Run(step=way, out=Path(place) / "out", work=Path(place) / "work", seed=0)
        for folder in (run.out, run.work):
            folder.mkdir()
        train(run, net, Padded(rows, length=128, rows=4, seed=0, pad=0), Recipe(3, 1e-4, muon, checkpoint_every=0))
        ended = state.latest(run.work / "train")
        assert ended is not None
        moments = sum(t.nbytes for t in ended.part("optimiser").values() if t.ndim)
    pipe.send(
        {"weights": held, "matrices": held - rest, "optimiser": moments, "trained": trained, "peak": peak() - began}
    )


def main() -> None:
    """Measure all three and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--rank", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found: dict[str, dict[str, int]] = {}
    for way in WAYS:
        here, there = context.Pipe()
        process = context.Process(target=one_way, args=(way, chosen.width, chosen.depth, chosen.rank, there))
        process.start()
        there.close()
        found[way] = here.recv()
        process.join()
        told = {name: f"{value / 2**20:.1f} MiB" if name != "trained" else value for name, value in found[way].items()}
        print(f"{way:6} {json.dumps(told)}", flush=True)
    shares = {
        "lora optimiser": found["lora"]["optimiser"] / found["full"]["optimiser"],
        "qlora matrices": found["qlora"]["matrices"] / found["full"]["matrices"],
        "qlora all weights": found["qlora"]["weights"] / found["full"]["weights"],
        "lora peak": found["lora"]["peak"] / found["full"]["peak"],
        "qlora peak": found["qlora"]["peak"] / found["full"]["peak"],
    }
    holds = shares["lora optimiser"] <= OPTIMISER and shares["qlora matrices"] <= WEIGHTS
    print(json.dumps({name: round(value, 4) for name, value in shares.items()}))
    print("the bars hold" if holds else "the bars DO NOT HOLD")
    chosen.out.write_text(json.dumps({"ways": found, "shares": shares, "holds": holds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
