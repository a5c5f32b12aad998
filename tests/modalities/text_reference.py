"""The rules on text in plain Python, as their papers and code put them: what the compiled pass has to agree with."""

import re
from collections import Counter

from volant.modalities.text_characters import BULLETS, QUOTES, terminals

TERMINALS = frozenset(terminals())
ENDS = (*sorted(TERMINALS), *QUOTES)
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CITATION = re.compile(r"\[[0-9]*\]|\[edit\]|\[citation needed\]")
SMALL = {letter: letter.lower() for letter in map(chr, range(65, 91))}


def words_of(text, kind):
    if kind == "whitespace-1":
        return text.split()
    return re.findall(r"[^\W\x00-\u2fff]|[^\W\u3000-\U0010ffff]+", text)


def share(part, whole):
    return part / whole if whole else 0.0


def again(parts):
    """How many parts were there before, and their characters."""
    seen, count, characters = set(), 0, 0
    for part in parts:
        if part in seen:
            count, characters = count + 1, characters + len(part)
        seen.add(part)
    return count, characters


def top(words, n):
    runs = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    if not runs:
        return 0
    run, times = runs.most_common(1)[0]
    return len(" ".join(run)) * times


def repeated(words, n):
    seen, characters, i = set(), 0, 0
    while i <= len(words) - n:
        run = tuple(words[i : i + n])
        if run in seen:
            characters += sum(map(len, run))
            i += n
        else:
            seen.add(run)
            i += 1
    return characters


def sentences(line):
    count, said, at = 0, False, 0
    while at < len(line):
        if line[at] not in TERMINALS:
            said = said or line[at].isalnum()
            at += 1
            continue
        while at < len(line) and line[at] in TERMINALS:
            wide = line[at] >= "\u3000"
            at += 1
        while at < len(line) and (line[at] in TERMINALS or line[at] in QUOTES or line[at] in ")]"):
            if line[at] in TERMINALS:
                wide = line[at] >= "\u3000"
            at += 1
        if said and (at == len(line) or wide or line[at].isspace()):
            count, said = count + 1, False
    return count + said


def c4(text, punctuation):
    """Sentences, rows, lorem, curly, and the text that stays."""
    kept, found, lorem, curly = [], 0, 0, 0
    for line in text.splitlines():
        line = line.strip()
        words = line.split()
        if any(len(word) > 1000 for word in words):
            continue
        line = CITATION.sub("", line)
        if punctuation and (not line.endswith(ENDS) or line.endswith("...")):
            continue
        if len(words) < 3:
            continue
        small = "".join(SMALL.get(letter, letter) for letter in line)
        lorem += "lorem ipsum" in small
        if "javascript" in small:
            continue
        curly += "{" in line
        if any(phrase in small for phrase in POLICIES):
            continue
        found += sentences(line)
        kept.append(line)
    return found, len(kept), lorem, curly, "\n".join(kept).strip()


def features(text, kind="whitespace-1"):
    words = words_of(text, kind)
    spoken = [word for word in words if any(letter.isalnum() for letter in word)]
    rows, lines = text.splitlines(), re.split("\n+", text) if text else []
    full = [line for line in text.split("\n") if line.strip()]
    paragraphs = re.split("\n{2,}", text.strip())
    found = {
        "characters": len(text),
        "words": len(words),
        "nuls": text.count("\0"),
        "spoken_words": len(spoken),
        "mean_word_length": share(sum(map(len, spoken)), len(spoken)),
        "hashes_per_word": share(text.count("#"), len(words)),
        "ellipses_per_word": share(text.count("...") + text.count("\u2026"), len(words)),
        "bullet_rows": share(sum(row.lstrip().startswith(tuple(BULLETS)) for row in rows), len(rows)),
        "ellipsis_rows": share(sum(row.rstrip().endswith(("...", "\u2026")) for row in rows), len(rows)),
        "letter_words": share(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "stop_words": len(STOP_WORDS & set(words)),
        "lines_again": share(again(lines)[0], len(lines)),
        "line_characters_again": share(again(lines)[1], len(text)),
        "paragraphs_again": share(again(paragraphs)[0], len(paragraphs)),
        "paragraph_characters_again": share(again(paragraphs)[1], len(text)),
        **{f"top_{n}": share(top(words, n), len(text)) for n in (2, 3, 4)},
        **{f"again_{n}": share(repeated(words, n), len(text)) for n in range(5, 11)},
        "terminal_lines": share(sum(line.endswith(ENDS) for line in full), len(full)),
        "short_lines": share(sum(len(line) <= 30 for line in full), len(full)),
        "full_characters_again": share(again(full)[1], len(text) - text.count("\n")),
        "newlines_per_word": share(text.count("\n"), len(words)),
    }
    for name, punctuation in (("c4", True), ("loose", False)):
        counts = c4(text, punctuation)
        found |= {f"{name}_{part}": counts[at] for at, part in enumerate(("sentences", "rows", "lorem", "curly"))}
    return found


def small(letter):
    """Lower case, one character for one."""
    return letter.lower()[:1]
