"""The leakage gate: runs of 13 and of 8 words, what tells and what does not, templates, short items."""

import json
import random

import numpy as np
import pytest

from volant.core.sample import Sample, Source
from volant.modalities.leakage import Guard, leaks, parts_of
from volant.modalities.words import words_of

DICE = random.Random(5)
WORDS = [f"word{i}" for i in range(5000)]


def prose(count):
    return [DICE.choice(WORDS) for _ in range(count)]


def joined(*parts):
    return " ".join(" ".join(part) for part in parts)


def test_thirteen_shared_words_leak_whatever_the_length_of_the_item():
    item = prose(2000)
    texts = [joined(prose(50), item[700:713], prose(50)), joined(prose(50), item[700:712], prose(50))]
    found = leaks(texts, [joined(item)])
    assert set(found) == {0}
    leak = found[0]
    assert (leak.longest, leak.at, leak.guarded_at, leak.guarded) == (13, 50, 700, 0)
    assert leak.words(texts[0]) == joined(item[700:713])


def test_eight_shared_words_leak_where_they_are_a_part_of_the_item():
    item = prose(50)
    texts = [joined(prose(40), item[10:18], prose(40)), joined(prose(40), item[10:17], prose(40))]
    found = leaks(texts, [joined(item)])
    assert set(found) == {0} and found[0].longest == 8 and found[0].share == pytest.approx(8 / 50)
    assert leaks(texts, [joined(item, prose(10))]) == {}  # 8 of 60 words are less than 15 %


def test_stretches_that_an_edit_parts_count_together():
    item = prose(130)
    text = joined(prose(9), item[0:10], ["x"], item[11:21], prose(9))
    assert leaks([text], [joined(item)])[0].share == pytest.approx(20 / 130)


def test_changed_items_are_found():
    items = [prose(DICE.randint(30, 120)) for _ in range(300)]
    planted = []
    for item in items:
        changed = list(item)
        for at in DICE.sample(range(len(item)), round(0.1 * len(item))):
            changed[at] = "other"
        planted.append(joined(prose(100), changed, prose(100)))
    guard = Guard([[joined(item)] for item in items])
    found = {(leak.text, leak.guarded) for leak in guard.scan(words_of(planted))}
    assert len(found & {(i, i) for i in range(300)}) >= 291 and all(i == j for i, j in found)
    verbatim = [joined(prose(100), item, prose(100)) for item in items]
    assert {(leak.text, leak.guarded) for leak in guard.scan(words_of(verbatim))} == {(i, i) for i in range(300)}


def test_what_tells_nothing_leaks_only_as_a_whole():
    digits = " ".join(str(i % 10) for i in range(40))
    loop = "for i in range(n): for j in range(i + 1, n):"
    item = f"{loop} {digits} a b c"
    assert leaks([f"code before {loop} code behind", f"a row {digits[:40]} of digits"], [item]) == {}
    assert set(leaks([f"planted: {item} in here"], [item])) == {0}


def test_numbers_and_words_of_programming_tell_nothing():
    count = "one 1 two 2 three 3 four 4 five 5 six 6 seven 7"
    loops = "for i in range(len(l)): for j in range(i + 1, len(l)): if l[i]"
    assert (
        leaks([f"{count} and on", f"{loops} and on"], [f"{count} {joined(prose(9))}", loops + joined(prose(9))]) == {}
    )


def test_a_short_answer_that_many_programs_hold_leaks_with_its_question_only():
    answer = "while b: a, b = b, a % b; return a"
    guard = Guard([[joined(prose(30)), answer], [answer]])
    assert [leak.guarded for leak in guard.scan(words_of([f"def gcd(a, b): {answer}"]))] == [1]


def test_scripts_without_spaces_are_guarded():
    item = "日本語の文章は単語の間に空白を置かないので一文字ずつ数える"
    assert set(leaks([f"前 {item} 後"], [item])) == {0}
    assert leaks(["日本語の文章は"], [item]) == {}


def test_templates_of_a_set_are_no_evidence():
    head = "You are a careful assistant and answer every question in one short sentence please"
    guard = Guard([[f"{head} {joined(prose(30))}"] for _ in range(40)])
    assert guard.scan(words_of([f"{head} {joined(prose(20))}"])) == [] and guard.templates > 0
    few = Guard([[f"{head} {joined(prose(30))}"] for _ in range(9)])  # a passage with nine questions is none
    assert {leak.guarded for leak in few.scan(words_of([f"{head} {joined(prose(20))}"]))} == set(range(9))


def test_short_items_leak_as_a_whole():
    assert set(leaks(["Return the name.", "Return the name again."], ["return  the NAME"])) == {0}
    assert leaks(["a"], []) == {} and leaks([], ["a"]) == {} and leaks(["", "..."], ["", "..."]) == {}


def test_questions_and_answers_are_guarded_each_for_itself():
    source = Source(uri="x", licence="MIT")
    question, answer = joined(prose(20)), joined(prose(60))
    sample = Sample(id="1", shape="completion", source=source, condition=question, target=answer)
    assert parts_of(sample) == [question, answer]
    assert parts_of(sample.model_copy(update={"target": "short"})) == [question]
    short = sample.model_copy(update={"condition": "one two", "target": "three"})
    assert parts_of(short) == ["one two\nthree"]
    chat = json.dumps([{"role": "system", "content": answer}, {"role": "user", "content": question}])
    assert parts_of(Sample(id="2", shape="messages", source=source, content=chat)) == [question]
    guard = Guard([[question, answer], ["nothing like it"]])
    assert [(k.text, k.guarded) for k in guard.scan(words_of(["a", f"b {question} c"]))] == [(1, 0)]


def test_repeated_runs_and_many_hits_are_one_leak_a_pair():
    item = prose(12) * 3
    found = Guard([[joined(item)]]).scan(words_of([joined(item, prose(5), item)]))
    assert [(k.text, k.guarded, k.longest) for k in found] == [(0, 0, 36)] and found[0].share == 1.0
    assert np.isclose(found[0].at, 0) or found[0].at == 41
