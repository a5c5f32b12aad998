"""Texts in other words: how many `collect.alike` finds, how many it takes that are none, and what it costs.

    python bench/alike.py [--texts 4000] [--seeds 3] [--shared ../shared/data]

Articles of BOLD of 30 words or more; of 300 of them copies are planted in five manners: sentences in another order, a
fifth of the words left out, a tenth left out and a tenth replaced, three in ten replaced, the first half alone. Found:
the share of each that falls; beside it what near duplicates (`collect.clean`, 0.65) find. Natural: how many articles
fall with nothing planted. Then the same of singular vectors of the same weights
(LSA), which is why they are not used. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from clean_corpus import SHARED
from wrong_labels import texts

from volant.modalities.duplicates import text_clusters
from volant.modalities.word_weights import weighted

HERE = Path(__file__).parent
PLANTED = 300
BARS = (0.9, 0.8, 0.75, 0.7, 0.6)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", text)


def copies(draw: random.Random, known: list[str]) -> dict[str, Callable[[str], str]]:
    words = [word for text in known[:500] for word in text.split()]

    def changed(text: str, gone: float, other: float) -> str:
        left = [word for word in text.split() if draw.random() >= gone]
        return " ".join(draw.choice(words) if draw.random() < other else word for word in left)

    return {
        "other order": lambda text: " ".join(draw.sample(sentences(text), len(sentences(text)))),
        "20 % gone": lambda text: changed(text, 0.2, 0.0),
        "10 % gone, 10 % other": lambda text: changed(text, 0.1, 0.1),
        "30 % other": lambda text: changed(text, 0.0, 0.3),
        "half": lambda text: " ".join(text.split()[: len(text.split()) // 2]),
    }


def vectors(texts: list[str], parts: int) -> Any:
    """Weights of words, or so many singular vectors of them."""
    found = weighted(pa.array(texts, pa.large_string()))
    if not parts:
        return found.toarray() if len(texts) < 10_000 else found
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    return normalize(TruncatedSVD(parts, random_state=0, n_iter=4).fit_transform(found)).astype(np.float32)


def once(seed: int, count: int, shared: Path) -> dict[str, Any]:
    draw = random.Random(seed)
    known = [content["content"] for content, _ in texts(shared)[1] if len(content["content"].split()) >= 30]
    draw.shuffle(known)
    known = known[:count]
    sources = [at for at, text in enumerate(known) if len(sentences(text)) > 2][:PLANTED]
    made = {name: [change(known[at]) for at in sources] for name, change in copies(draw, known).items()}
    every = [*known, *(text for own in made.values() for text in own)]
    near = text_clusters(every, 0.65).repeats()
    told: dict[str, Any] = {"near": {}}
    for number, name in enumerate(made):
        places = range(len(known) + number * len(sources), len(known) + (number + 1) * len(sources))
        told["near"][name] = sum(place in near for place in places) / len(sources)
    for way, parts in (("words", 0), ("lsa 200", 200), ("lsa 400", 400)):
        start = time.process_time()
        unit = vectors(every, parts)
        common = np.tril(unit[: len(known)] @ unit[: len(known)].T, -1).max(1)
        own: dict[str, Any] = {"natural": [int((common >= bar).sum()) for bar in BARS]}
        own["seconds"] = time.process_time() - start
        for number, name in enumerate(made):
            first = len(known) + number * len(sources)
            cosines = (unit[sources] * unit[first : first + len(sources)]).sum(1)
            own[name] = [float((cosines >= bar).mean()) for bar in BARS]
        told[way] = own
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--out", type=Path, default=HERE / "alike.json")
    asked = parser.parse_args()
    runs = [once(seed, asked.texts, asked.shared) for seed in range(asked.seeds)]
    print(f"{'':<32}" + "".join(f"{bar:>8}" for bar in BARS) + f"{'near':>8}")
    for way in ("words", "lsa 200", "lsa 400"):
        for name in (key for key in runs[0][way] if key != "seconds"):
            mean = np.mean([run[way][name] for run in runs], axis=0)
            near = f"{np.mean([run['near'][name] for run in runs]):>8.2f}" if name in runs[0]["near"] else ""
            print(f"{way:<9}{name:<23}" + "".join(f"{value:>8.4g}" for value in mean) + near)
        print(f"{way:<9}{'CPU seconds':<23}{np.mean([run[way]['seconds'] for run in runs]):>8.1f}")
    asked.out.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
