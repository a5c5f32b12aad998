"""Few sampling steps on digits: 40 steps of a flow against 4 of its student, under the judge of `digits.py`.

    python bench/few_step.py [--seeds 0] [--steps 0] [--width 0] [--samples 4096] [--out bench/few_step.json]

The teacher is a flow with the family's defaults, trained on the train split; the student is what `compress.distil`
makes of it (`nets/distil.py`). Both draw one set from the same seeds, as many as there are training pictures and of
the same classes, in plain (Euler) steps; the way that models are drawn by default stands beside. The bar: the
student's Fréchet ratio within 15 % of the teacher's, and at least 8 times faster. Times are
process CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits import SPARE, Digits, digits, figures, judged

from volant.core.run import Run
from volant.core.spaces import Grid
from volant.nets import distil
from volant.nets.arrays import Arrays
from volant.nets.conv import Judge
from volant.nets.flow import family
from volant.nets.loop import train
from volant.nets.recipe import Recipe

TEACHER, STUDENT = 40, 4
WITHIN, FASTER = 1.15, 8.0


def spent(call: Any) -> tuple[Any, float]:
    """What a call gives, and its CPU seconds."""
    begun = time.process_time()
    found = call()
    return found, round(time.process_time() - begun, 2)


def taught(run: Run, data: Digits, seed: int, steps: int, width: int) -> Any:
    """A flow with the family's defaults, where nothing else is asked for."""
    chosen, rows = steps or family.default_steps, family.default_batch
    space = Grid(1, (8, 8), conditions=10 + SPARE)
    net = family.build(space, seed=seed, width=width)
    recipe = Recipe(**family.recipe(space, steps=chosen, batch=rows), checkpoint_every=0)
    train(run, net, Arrays(data.examples, rows=rows, seed=seed), recipe, loss=family.step_loss)
    family.save(net, run.out / "teacher")
    return family.load(run.out / "teacher").eval()


def drawn(net: Any, judge: Judge, data: Digits, seed: int, steps: int, order: int = 1) -> dict[str, float]:
    """The figures of one set, and what it took; plain steps are what the student learns to take."""
    prompts = [(int(c),) for c in data.train_class]
    made, seconds = spent(lambda: family.sample(net, prompts, seed=seed, steps=steps, order=order))
    return {**figures(judge, data, np.clip(made, -1, 1), data.train_class), "cpu_seconds": seconds}


def one_seed(judge: Judge, data: Digits, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """Teacher and student of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(step="few", out=Path(folder) / "out", work=Path(folder) / "work", seed=seed)
        run.out.mkdir()
        teacher, training = spent(lambda: taught(run, data, seed, chosen.steps, chosen.width))
        classes = [(int(c),) for c in data.train_class]
        rng = random.Random(seed)
        prompts = [() if n % 10 == 9 else rng.choice(classes) for n in range(chosen.samples)]
        controls = {"steps": TEACHER, "order": 1}
        lessons, showing = spent(lambda: distil.ways(run, family, teacher, prompts, steps=STUDENT, controls=controls))
        student = family.load(run.out / "teacher")
        _, learning = spent(lambda: distil.fit(run, family, student, lessons, steps=chosen.train_steps))
        student.eval()
        found: dict[str, Any] = {
            "teacher": drawn(teacher, judge, data, seed, TEACHER),
            "teacher in 4": drawn(teacher, judge, data, seed, STUDENT),
            "teacher, 12 Heun": drawn(teacher, judge, data, seed, 12, order=2),
            "student": drawn(student, judge, data, seed, STUDENT),
        }
    found["ratio_share"] = round(found["student"]["ratio"] / found["teacher"]["ratio"], 4)
    found["times_faster"] = round(found["teacher"]["cpu_seconds"] / found["student"]["cpu_seconds"], 2)
    found["cpu_seconds"] = {"training": training, "trajectories": showing, "distilling": learning}
    found["holds"] = found["ratio_share"] <= WITHIN and found["times_faster"] >= FASTER
    return found


def table(seed: int, found: dict[str, Any]) -> str:
    """One seed for a reader."""
    names = list(found["student"])
    lines = [f"seed {seed:<12}" + "".join(f"{n:>12}" for n in names)]
    for who in ("teacher", "teacher in 4", "teacher, 12 Heun", "student"):
        lines.append(f"{who:<17}" + "".join(f"{found[who][n]:>12.4g}" for n in names))
    told = f"{found['ratio_share']:.3f} of its ratio, {found['times_faster']:.1f} times faster"
    return "\n".join([*lines, f"{told}: the bar {'holds' if found['holds'] else 'DOES NOT HOLD'}"])


def main() -> None:
    """Run all and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=0, help="of the teacher's training; 0: the family's own")
    parser.add_argument("--width", type=int, default=0, help="of the network; 0: the family's own")
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--train-steps", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = digits()
    judge, facts = judged(data)
    body: dict[str, Any] = {"judge": facts, "seeds": {}, "versions": {"torch": torch.__version__, "threads": 1}}
    body["asked"] = {name: getattr(chosen, name) for name in ("steps", "width", "samples", "train_steps")}
    for seed in chosen.seeds:
        found = one_seed(judge, data, seed, chosen)
        print(table(seed, found), flush=True)
        body["seeds"][str(seed)] = found
        chosen.out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
