"""Published rules on text, as thresholds on the columns of `text_features`: what drops a text, and by how much.

In go features of many texts and the names of rule sets; out comes for each text the first rule that it breaks as
`rule: value against threshold`. No text is read here: a threshold changes without a second pass.

| set | source | what it is |
|---|---|---|
| `gopher` | Rae et al. 2021, section A1 and table A1 | quality (words, marks, stop words) and repetition |
| `c4` | Raffel et al. 2020, section 2.2 | rows without terminal punctuation and the like go; then the text's rules |
| `c4_loose` | Penedo et al. 2024 (FineWeb) | the same, but a row needs no terminal punctuation |
| `fineweb` | Penedo et al. 2024, section 3.6 | three shares of lines, and line feeds per word |
| `corpus` | ours, see `text_corpus` | lines that many records share go; then how surprising the characters are |

FineWeb's own recipe is `[gopher, c4_loose, fineweb]`. The rules on rows of C4 change the text: what stays is
`text_features.trimmed`, and `sentences` are those of the rows that stay; `fineweb` behind it judges what stays. C4's
list of bad words is `screen`'s, where it flags. Rules are in the order of datatrove's code (Apache-2.0), so that the
first rule that a text breaks is the same; the thresholds are the papers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import SettingError, did_you_mean
from volant.modalities.text_features import Feature

Preset = Literal["gopher", "c4", "c4_loose", "fineweb", "corpus"]


LINE_RECORDS, SHARED_LINES, SURPRISE = "corpus_line_records", "corpus_shared_lines", "corpus_surprise"


@dataclass(frozen=True)
class Rule:
    """A bound on a feature.

    Attributes:
        name: what a drop calls it.
        feature: a column of `text_features`.
        bound: the threshold; a value that equals it passes.
        least: whether the value must be at least the bound; else at most.
    """

    name: str
    feature: str
    bound: float
    least: bool = False

    def broken(self, value_N: Feature) -> NDArray[np.bool_]:
        """Which values break it."""
        return value_N < self.bound if self.least else value_N > self.bound

    def told(self, value: float) -> str:
        """The drop of a record with that value."""
        return f"{self.name}: {value:.6g} against {self.bound:g}"


_REPETITION = {
    "paragraphs_again": 0.30, "paragraph_characters_again": 0.20, "lines_again": 0.30, "line_characters_again": 0.20,
    "top_2": 0.20, "top_3": 0.18, "top_4": 0.16,
    "again_5": 0.15, "again_6": 0.14, "again_7": 0.13, "again_8": 0.12, "again_9": 0.11, "again_10": 0.10,
}  # fmt: skip
_GOPHER = (
    *(Rule(f"gopher_{feature}", feature, bound) for feature, bound in _REPETITION.items()),
    Rule("gopher_min_words", "spoken_words", 50, least=True),
    Rule("gopher_max_words", "spoken_words", 100_000),
    Rule("gopher_min_word_length", "mean_word_length", 3, least=True),
    Rule("gopher_max_word_length", "mean_word_length", 10),
    Rule("gopher_hashes", "hashes_per_word", 0.1),
    Rule("gopher_ellipses", "ellipses_per_word", 0.1),
    Rule("gopher_bullets", "bullet_rows", 0.9),
    Rule("gopher_ellipsis_rows", "ellipsis_rows", 0.3),
    Rule("gopher_letters", "letter_words", 0.8, least=True),
    Rule("gopher_stop_words", "stop_words", 2, least=True),
)


def _c4(name: str, kind: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{name}_lorem_ipsum", f"{kind}_lorem", 0),
        Rule(f"{name}_curly_bracket", f"{kind}_curly", 0),
        Rule(f"{name}_sentences", f"{kind}_sentences", 5, least=True),
    )


RULES: dict[str, tuple[Rule, ...]] = {
    "gopher": _GOPHER,
    "c4": _c4("c4", "c4"),
    "c4_loose": _c4("c4_loose", "loose"),
    "fineweb": (
        Rule("fineweb_terminal_lines", "terminal_lines", 0.12, least=True),
        Rule("fineweb_short_lines", "short_lines", 0.67),
        Rule("fineweb_characters_again", "full_characters_again", 0.01),
        Rule("fineweb_newlines", "newlines_per_word", 0.3),
    ),
}
"""The published rules of each set, in the order in which they are applied."""
CORPUS = (Rule(LINE_RECORDS, "line_records", 10), Rule(SHARED_LINES, "shared", 0.5), Rule(SURPRISE, "surprise", 4.5))
"""Those of the set `corpus`: they look at a text beside the others. The first says which lines are shared, and drops
nothing."""


def rules_of(presets: Sequence[Preset], thresholds: Mapping[str, float] | None = None) -> tuple[Rule, ...]:
    """The rules of those sets, with other thresholds where some are given by the rule's name.

    Raises:
        SettingError: a threshold is of no rule of these sets.
    """
    sets = {**RULES, "corpus": CORPUS}
    found = {rule.name: rule for name in dict.fromkeys(presets) for rule in sets[name]}
    for name, bound in (thresholds or {}).items():
        if name not in found:
            named = ", ".join(presets) or "no set"
            raise SettingError(f"`thresholds` names {name!r}, no rule of {named}.", fix=did_you_mean(name, found))
        found[name] = replace(found[name], bound=bound)
    return tuple(found.values())


def trims_first(presets: Sequence[str]) -> bool:
    """Whether C4 takes rows out before FineWeb judges."""
    before = presets[: presets.index("fineweb")] if "fineweb" in presets else ()
    return any(name.startswith("c4") for name in before)


def broken(columns: Mapping[str, Feature], rules: Sequence[Rule]) -> dict[int, str]:
    """The first rule that each text breaks, by the text's number, as `rule: value against threshold`."""
    found: dict[int, str] = {}
    whole_N = np.ones(len(columns[rules[0].feature]) if rules else 0, bool)
    for rule in rules:
        value_N = columns[rule.feature]
        broken_N = np.flatnonzero(rule.broken(value_N) & whole_N)
        whole_N[broken_N] = False
        found.update((i, rule.told(v)) for i, v in zip(broken_N.tolist(), value_N[broken_N].tolist(), strict=True))
    return found
