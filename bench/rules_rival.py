"""datatrove's verdicts by filter, for `bench/rules.py`; runs in the environment that `clean_rival.py` describes.

Enters: the marks at which a line may end for us, then JSON lines `[text, sentences]`, all by standard input. Leaves: a
JSON line each, by filter the name of the rule that drops the text, or an empty string. Words are those of white space,
as ours are; C4 counts the sentences of a row by our rule, which the caller gave as a number for each row that C4 may
keep. `c4_ends` and `fineweb_ends` are the filters with our marks at the end of a line in place of theirs; `recipe` is
C4 without ends of rows and then FineWeb, `recipe_ends` the same with our marks.
"""

from __future__ import annotations

import json
import sys

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)


def main() -> None:
    """Judge each text by each filter."""
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        module.split_into_words = lambda text, language: text.split()
    counts: dict[str, int] = {}
    c4_filters.split_into_sentences = lambda line, language: range(counts.get(line, 0))
    ends = tuple(json.loads(sys.stdin.readline()))
    their_ends = c4_filters.END_PUNCTUATION
    loose = C4QualityFilter(filter_no_terminal_punct=False)
    filters = {
        "repetition": GopherRepetitionFilter(),
        "quality": GopherQualityFilter(),
        "c4": C4QualityFilter(),
        "c4_loose": loose,
        "c4_ends": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
        "fineweb_ends": FineWebQualityFilter(stop_chars=ends),
    }
    chains = {name: [one] for name, one in filters.items()}
    chains |= {"recipe": [loose, filters["fineweb"]], "recipe_ends": [loose, filters["fineweb_ends"]]}
    for line in sys.stdin:
        text, given = json.loads(line)
        counts.clear()
        counts.update(given)
        told = {}
        for name, chain in chains.items():
            document = Document(text=text, id="0")
            c4_filters.END_PUNCTUATION = ends if name == "c4_ends" else their_ends
            try:
                verdicts = (one.filter(document) for one in chain)
                told[name] = next((passed[1] for passed in verdicts if passed is not True), "")
            except ZeroDivisionError:
                told[name] = "divides by zero"
        print(json.dumps(told))


if __name__ == "__main__":
    main()
