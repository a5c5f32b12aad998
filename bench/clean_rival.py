"""datatrove's cleaning of a sample, for `bench/clean.py --rival PYTHON`; runs in an environment of its own.

    python -m venv ENV && ENV/bin/pip install datatrove==0.10.1 spacy nltk xxhash orjson regex fasteners

Enters: a folder with `in/sample.jsonl`, one text a line. Leaves: JSON with the CPU seconds and how many texts stayed.
The steps are FineWeb's: Gopher's repetition and quality, C4 without terminal punctuation, FineWeb's rules, signatures
of five words in 14 bands of 8, buckets, clusters, and the texts that stay written as JSON lines (`in/` is read again
by the last step). One process; what importing and spaCy's start take is not counted.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.text import split_into_sentences, split_into_words


def cpu() -> float:
    """CPU seconds of this process and of its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Clean the sample step by step."""
    folder = Path(sys.argv[1])
    split_into_words("Words to start with.", "eng"), split_into_sentences("One. Two.", "eng")
    list(GopherQualityFilter().run(iter([Document(text="Words to start with.", id="0")])))
    start = cpu()
    kept = [
        JsonlReader(str(folder / "in")),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
        JsonlWriter(str(folder / "filtered")),
    ]
    again = [JsonlReader(str(folder / "filtered")), MinhashDedupSignature(str(folder / "signatures"))]
    buckets = [MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"))]
    clusters = [MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"))]
    last = [
        JsonlReader(str(folder / "filtered")),
        MinhashDedupFilter(str(folder / "remove")),
        JsonlWriter(str(folder / "out")),
    ]
    stayed = 0
    for steps, ranks in ((kept, 1), (again, 1), (buckets, 14), (clusters, 1), (last, 1)):
        for rank in range(ranks):
            data = None
            for step in steps:
                data = step.run(data, rank, ranks)
            for _ in data or ():
                stayed += steps is last
    for step in (*kept, *last):
        if isinstance(step, JsonlWriter):
            step.close()
    print(json.dumps({"seconds": cpu() - start, "kept": stayed}))


if __name__ == "__main__":
    main()
