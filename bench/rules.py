"""Our rules of Gopher, C4 and FineWeb against datatrove's own filters, given our words and sentences, text by text.

    python bench/rules.py --rival PYTHON [--data ../shared/data] [--out bench/rules.json]

The texts are BOLD's extracts, WikiText-2's paragraphs, the beginnings of the standard library's files, sentences in
24 languages, and half of all of these again with Unicode's line ends, bullets, full stops and blanks put in. For each
filter the first rule that drops a text is compared; where they differ, both are counted and one text is shown.
`c4_ends` and `fineweb_ends` are datatrove's filters with our marks at the end of a line: what differs no more is
explained by them (we let a quotation mark end a line for FineWeb too, and Unicode's full stops for C4). `recipe` is
C4 without ends of rows and then FineWeb on what it leaves, as in datatrove's own recipe; how many verdicts would be
others if FineWeb saw the whole text is counted too. Without `--rival` nothing is compared, which is said.
`clean_rival.py` says how to make the environment.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from volant.modalities.text_characters import QUOTES, terminals
from volant.modalities.text_features import columns_of, features, read
from volant.modalities.text_rules import RULES, broken

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
PUT_IN = "\u2028\u2029\x85\x0b\u3002\uff01\u2022\u2026\u3000\u00a0\u0964\u25cf\u201d\x1c..."
THEIRS = {
    "paragraphs_again": "dup_para_frac", "paragraph_characters_again": "dup_para_char_frac",
    "lines_again": "dup_line_frac", "line_characters_again": "dup_line_char_frac",
    **{f"top_{n}": f"top_{n}_gram" for n in (2, 3, 4)},
    **{f"again_{n}": f"duplicated_{n}_n_grams" for n in range(5, 11)},
    "min_words": "gopher_short_doc", "max_words": "gopher_long_doc", "min_word_length": "gopher_below_avg_threshold",
    "max_word_length": "gopher_above_avg_threshold", "hashes": "gopher_too_many_hashes",
    "ellipses": "gopher_too_many_ellipsis", "bullets": "gopher_too_many_bullets",
    "ellipsis_rows": "gopher_too_many_end_ellipsis", "letters": "gopher_below_alpha_threshold",
    "stop_words": "gopher_enough_stop_words", "sentences": "too_few_sentences", "terminal_lines": "line_punct_ratio",
    "short_lines": "short_line_ratio", "characters_again": "char_dup_ratio", "newlines": "list_ratio",
}  # fmt: skip
QUALITY = next(at for at, rule in enumerate(RULES["gopher"]) if rule.name == "gopher_min_words")
FILTERS = {
    "repetition": RULES["gopher"][:QUALITY], "quality": RULES["gopher"][QUALITY:],
    "c4": RULES["c4"], "c4_ends": RULES["c4"], "c4_loose": RULES["c4_loose"],
    "fineweb": RULES["fineweb"], "fineweb_ends": RULES["fineweb"],
    "recipe": (*RULES["c4_loose"], *RULES["fineweb"]), "recipe_ends": (*RULES["c4_loose"], *RULES["fineweb"]),
}  # fmt: skip


def texts_of(data: Path) -> list[str]:
    """Real texts, and half of them again with other characters put in."""
    found = []
    for file in sorted((data / "bold").glob("*_wiki.json")):
        for people in json.loads(file.read_text("utf-8")).values():
            found += [" ".join(own) for own in people.values()][:300]
    found += [line for line in (data / "wikitext-2" / "valid.txt").read_text("utf-8").splitlines() if line.strip()]
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    found += [text for file in library if (text := file.read_text("utf-8", "replace")[:4000]).strip()]
    rows = [line.split("\t") for line in Path(__file__).with_name("languages.tsv").read_text("utf-8").splitlines()]
    for language in sorted({row[0] for row in rows}):
        found.append("\n".join(row[-1] for row in rows if row[0] == language))
    dice = random.Random(0)
    dice.shuffle(found)
    found = found[:3000]
    for text in found[::2]:
        words = text.split(" ")
        for _ in range(1 + len(words) // 8):
            words[dice.randrange(len(words))] += dice.choice(PUT_IN)
        found.append(" ".join(words))
    return found


def ours(texts: list[str]) -> dict[str, list[str]]:
    """By filter the rule of datatrove's name that drops each text, or nothing."""
    figures = read(pa.array(texts, pa.large_string()), rows="c4_loose").figure_NF
    columns, left = columns_of(figures), columns_of(figures, left=True)
    found = {}
    for name, rules in FILTERS.items():
        drops = broken(left if name.startswith("recipe") else columns, rules)
        plain = [drops.get(at, "").split(":")[0].removeprefix("gopher_") for at in range(len(texts))]
        plain = [one.removeprefix("c4_loose_").removeprefix("c4_").removeprefix("fineweb_") for one in plain]
        found[name] = [THEIRS.get(one, one) for one in plain]
    return found


def other_if_whole(texts: list[str]) -> int:
    """Of how many texts the recipe's verdict is another one where FineWeb judges the whole text."""
    figures = read(pa.array(texts, pa.large_string()), rows="c4_loose").figure_NF
    whole, left = (broken(columns_of(figures, left=left), FILTERS["recipe"]) for left in (False, True))
    return len(whole.keys() ^ left.keys())


def theirs(python: str, texts: list[str]) -> dict[str, list[str]]:
    """datatrove's, each text with how many sentences our rule counts in its rows."""
    rows = [[CITATION.sub("", row.strip()) for row in text.splitlines()] for text in texts]
    flat = [row for own in rows for row in own]
    counts = features(pa.array(flat, pa.large_string()))["loose_sentences"].tolist()
    given = iter(counts)
    sent = [json.dumps([*terminals(), *QUOTES])]
    sent += [json.dumps([text, {row: next(given) for row in own}]) for text, own in zip(texts, rows, strict=True)]
    words = [python, str(Path(__file__).with_name("rules_rival.py"))]
    done = subprocess.run(words, input="\n".join(sent), check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: [one[name] for one in told] for name in FILTERS}


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--rival", help="Python of an environment with datatrove 0.10.1")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    if not asked.rival:
        print("not compared: give --rival PYTHON (clean_rival.py says how to make its environment)")
        return
    texts = texts_of(asked.data)
    own, other = ours(texts), theirs(asked.rival, texts)
    told: dict[str, Any] = {"texts": len(texts), "other_if_whole": other_if_whole(texts)}
    print(
        f"{len(texts):,} texts; the recipe's verdict is another on {told['other_if_whole']:,} if FineWeb sees all rows"
    )
    for name in FILTERS:
        pairs = list(zip(own[name], other[name], strict=True))
        apart = Counter((a, b) for a, b in pairs if a != b)
        verdicts = sum(bool(a) != bool(b) for a, b in pairs)
        dropped = sum(bool(a) for a, _ in pairs)
        print(f"{name:<11} drops {dropped:5,}; another verdict {verdicts:4,}, another rule {sum(apart.values()):4,}")
        for (a, b), count in apart.most_common(8):
            shown = next(text for text, pair in zip(texts, pairs, strict=True) if pair == (a, b))
            print(f"    {count:4,}  ours {a or 'kept'}, theirs {b or 'kept'}: {shown[:60]!r}")
        told[name] = {
            "drops": dropped,
            "another_verdict": verdicts,
            "apart": [[a, b, n] for (a, b), n in apart.items()],
        }
    asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
