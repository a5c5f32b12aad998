"""Near duplicates by datasketch, for `bench/duplicates.py --rival PYTHON`; runs in an environment of its own.

Enters: a JSON list of texts by standard input, and the threshold. Leaves: JSON with the first text of each one's
cluster and the CPU seconds of this process (without starting). The words and the shingles of five are made as its
documentation shows, with sets in Python; candidates are decided by the exact similarity, as ours are.
"""

from __future__ import annotations

import json
import re
import sys
import time

from datasketch import MinHash, MinHashLSH

WORD = re.compile(r"\w+")


def main() -> None:
    """Read texts, print clusters."""
    texts, threshold = json.load(sys.stdin), float(sys.argv[1])
    start = time.process_time()
    index = MinHashLSH(threshold=threshold, num_perm=128)
    firsts: list[int] = []
    sets: list[set[bytes]] = []
    for i, text in enumerate(texts):
        words = WORD.findall(text.lower())
        own = {" ".join(words[k : k + 5]).encode() for k in range(max(1, len(words) - 4))}
        signature = MinHash(num_perm=128, seed=1)
        signature.update_batch(own)
        first = i
        for j in index.query(signature):
            if len(own & sets[j]) >= threshold * len(own | sets[j]):
                first = min(first, firsts[j])
        index.insert(i, signature)
        firsts.append(first)
        sets.append(own)
    print(json.dumps({"first": firsts, "seconds": time.process_time() - start}))


if __name__ == "__main__":
    main()
