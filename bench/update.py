"""An update of 2 MB against 20 MB cleaned before: does it keep what cleaning all at once keeps, and at what cost?

    python bench/update.py [--megabytes 20] [--new 2] [--seeds 3] [--shared ../shared/data]

The corpus is that of `clean_corpus.py`, one stream: the new part holds near and exact copies of texts in the old one.
Items of GSM8K are held out, some in each part. **Whole**: `collect.clean` of both parts at once. **Update**: the new
part cleaned alone, then `collect.unseen` against the cleaned old one. Records that only one of the two ways keeps are
counted; CPU seconds are of this process, on one thread. The sketches are weighed against the records.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from clean_corpus import SHARED, Corpus

from volant.core import Dataset, Run, Sample
from volant.core.sample import Source, sample_id
from volant.stages import collect
from volant.store.dataset import rows, writer

HERE = Path(__file__).parent
SOURCE = Source(uri="bench", licence="LicenseRef-bench")


def gathered(folder: Path, texts: Sequence[str], held_out: Sequence[str]) -> Dataset:
    """A dataset of training texts and of items, half of them for validation and half for the test."""
    with writer(folder) as out:
        for number, text in enumerate([*texts, *held_out]):
            split = "train" if number < len(texts) else ("test", "validation")[number % 2]
            out.write(Sample(id=sample_id(text), shape="text", source=SOURCE, content=text, split=split, group="g"))
    return Dataset(folder)


def run_of(folder: Path, name: str) -> Run:
    for part in ("out", "work"):
        (folder / name / part).mkdir(parents=True)
    return Run(step=name, out=folder / name / "out", work=folder / name / "work", threads=1)


def timed(method: Callable[..., Dataset], run: Run, *data: Dataset) -> tuple[Dataset, float]:
    start = time.process_time()
    made = method(run, *data)
    return made, time.process_time() - start


def weight(folder: Path, *names: str) -> int:
    return sum(file.stat().st_size for name in names for file in (folder / name).glob("*.parquet"))


def once(seed: int, sizes: tuple[float, float], shared: Path) -> dict[str, float]:
    corpus = Corpus(shared, seed)
    items = [json.loads(line)["question"] for line in (shared / "gsm8k" / "test.jsonl").open(encoding="utf-8")][:250]
    texts = [text for _, text in corpus.texts(int(sum(sizes) * 1e6))]
    ends = np.cumsum([len(text.encode()) for text in texts])
    first = int(np.searchsorted(ends, sizes[0] * 1e6))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        before = gathered(folder / "old", texts[:first], items[:200])
        after = gathered(folder / "new", texts[first:], items[200:])
        whole, whole_s = timed(collect.clean, run_of(folder, "whole"), before, after)
        clean_old, old_s = timed(collect.clean, run_of(folder, "clean-old"), before)
        clean_new, new_s = timed(collect.clean, run_of(folder, "clean-new"), after)
        run = run_of(folder, "update")
        update, update_s = timed(collect.unseen, run, clean_new, clean_old)
        kept = {sample.id for sample in rows(whole)}
        earlier = {sample.id for sample in rows(clean_old)}
        parts = earlier | {sample.id for sample in rows(update)}
        print(*run.watcher.lines, sep="\n")
        return {
            "records": len(texts), "new": len(texts) - first, "kept": len(kept), "only whole": len(kept - parts),
            "only update": len(parts - kept), "earlier ones": len(earlier - kept),
            "whole s": whole_s, "old s": old_s, "new s": new_s, "unseen s": update_s,
            "sketches": weight(clean_old.path, "sketches") / weight(clean_old.path, "data", "dropped"),
        }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--new", type=float, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--out", type=Path, default=HERE / "update.json")
    asked = parser.parse_args()
    once(99, (0.3, 0.1), asked.shared)  # what is compiled and imported at first is not the cost of a text
    runs = [once(seed, (asked.megabytes, asked.new), asked.shared) for seed in range(asked.seeds)]
    print(f"{'':<14}" + "".join(f"{'seed ' + str(seed):>10}" for seed in range(len(runs))) + f"{'mean':>10}")
    for key in runs[0]:
        values = [run[key] for run in runs]
        print(f"{key:<14}" + "".join(f"{value:>10,.4g}" for value in [*values, float(np.mean(values))]))
    asked.out.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
