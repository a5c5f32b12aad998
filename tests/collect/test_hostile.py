"""Hostile texts through the whole data stage: each is kept, dropped or refused, and counted; none ends a step."""

import gzip
import json
import random
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import peak_memory
import volant
from volant.stages import collect
from volant.store.dataset import dropped, rows

PARTS = ("ri", "sto", "bran", "mar", "win", "gar", "let", "en", "is", "sil", "pa", "dow", "cop", "mor", "ta", "ne")
MEGABYTE = 1 << 20
HOSTILE = {
    "NUL bytes": "a\0b\0c and the rest of it is here",
    "only NUL bytes": "\0" * 5000,
    "control characters": "".join(map(chr, range(32))) + " and words to be read",
    "half a pair": "a lone \ud800 stands here, and \udfff there",
    "characters that are none": "\ufffe\uffff\U0010ffff words are here as well",
    "right to left": "user\u202egnp.exe\u202c and \u2066hidden\u2069 words of it",
    "piled up": "Z" + "\u0300\u0317\u0331" * 20_000 + " and words",
    "no blank": "x" * MEGABYTE,
    "one letter a word": "a " * (MEGABYTE // 2),
    "blank lines": "\n" * MEGABYTE + "the end of it all",
    "equal lines": "the same line again\n" * 40_000,
    "joined by nothing seen": "zero\u200bwidth\u200djoined\ufeff words of all kinds",
    "spaces of all kinds": "\u00a0\u2003\u3000\u2028\u2029\u0085 and so it is",
    "decoded wrongly, thrice": "schÃƒÂƒÃ‚Â¶n und groÃƒÂƒÃ‚ÂŸ",
    "digits": "1" * 300_000,
    "keys one after another": "-----BEGIN PRIVATE KEY-----" * 8_000,
    "addresses one after another": "a@b.co," * 40_000,
    "a card in each place": "4111111111111111," * 15_000,
    "sentences of one letter": "A. " * 100_000,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 5_000,
    "markup": "</pre></div></body></html><script>alert(1)</script><!--",
    "a reason": "min_words: 1 against 5: leakage: 0 against 0",
    "nothing": "",
    "blanks": " \t \n ",
}
BAD_LINES = [
    *(
        b"{",
        b'{"text": ',
        b'{"text": 7}',
        b"[1, 2",
        b"null",
        b'"text"',
        b'{"text": "a", "text": ',
        b"\0\0\0",
        b"\xff\xfe",
    ),
    b'{"text": "caf\xe9"}',
    b'{"text": ' + b"[" * 100_000,
    b'{"n": 1e999, "m": -' + b"9" * 5000 + b"}",
]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project" / "data").mkdir(parents=True)
    return volant.Project(tmp_path / "project", device="cpu", threads=1)


def lines(count, first=0):
    """Lines of JSON with texts that nothing is wrong with."""

    def said(number):
        dice = random.Random(number)
        words = ["".join(dice.choices(PARTS, k=dice.randrange(2, 5))) for _ in range(60)]
        return " ".join(
            f"The {' '.join(words[at : at + 5])} of {words[at]} and {words[at - 2]}." for at in range(0, 60, 5)
        )

    return [json.dumps({"text": said(number)}).encode() for number in range(first, first + count)]


def total(data):
    return sum(1 for _ in rows(data)) + sum(1 for _ in dropped(data))


class Whole(HTMLParser):
    """Reads a page and keeps its tags."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_hostile_texts_pass_every_step_and_are_counted(project):
    hostile = [json.dumps({"text": text}).encode() for text in HOSTILE.values()]
    raw = b"\n".join([*lines(60), *hostile, *BAD_LINES, *lines(60, 60)])
    (project.root / "data" / "a.jsonl").write_bytes(raw)
    (project.root / "data" / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines(11, 200)))[:-9])
    gathered = project.run(collect.files, glob="data/*", licence="MIT", piece_chars=0)
    refused = [json.loads(line) for line in (gathered.path / "refused.jsonl").read_text("utf-8").splitlines()]
    # Every line is kept or told of; of what is torn the lines before the end are kept.
    places = {int(r["where"].rpartition(":")[2]) for r in refused if re.fullmatch(r".*a\.jsonl:\d+", r["where"])}
    bad = range(60 + len(hostile) + 1, 60 + len(hostile) + len(BAD_LINES) + 1)
    assert places >= set(bad), set(bad) - places
    torn = sum(1 for s in rows(gathered) if "b.jsonl" in s.source.uri)
    assert torn >= 9 and any("b.jsonl.gz" in r["where"] for r in refused)
    assert total(gathered) + len(places) == 120 + len(hostile) + len(BAD_LINES) + torn
    screened = project.run(collect.screen, gathered)
    assert total(screened) == total(gathered)
    cleaned = project.run(
        collect.clean,
        screened,
        rules=["gopher", "c4_loose", "fineweb"],
        thresholds={"gopher_min_words": 5, "c4_loose_sentences": 1},
    )
    own = project.step("own").run(collect.clean, screened)
    for made in (cleaned, own):
        assert total(made) == total(gathered)
        assert all(re.match(r"\w+: .* against ", s.drop, re.DOTALL) for s in dropped(made))
        assert not any("\0" in s.text or "@b.co" in s.text for s in rows(made))
    balanced = project.run(collect.balance, cleaned)
    assert total(balanced) == total(gathered)
    dealt = project.run(collect.split, balanced)
    assert sum(1 for _ in rows(dealt)) == sum(1 for _ in rows(balanced))
    for made in (gathered, screened, cleaned, own, balanced, dealt):
        page = (made.path / "index.html").read_text("utf-8")
        tags = Whole(page).tags
        assert "script" not in tags and tags.count("body") == 1 and len(page) < MEGABYTE, made


@pytest.mark.slow
def test_a_line_of_two_gigabytes_ends_no_step(tmp_path):
    """The line is refused, what stands around it is kept, and memory does not grow with it."""
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    with (project / "data" / "a.jsonl").open("wb") as file:
        file.write(b"\n".join([*lines(30), b'{"text": "']))
        file.seek(1 << 31, 1)
        file.write(b'"}\n' + b"\n".join(lines(30, 30)))
    program = (
        "import volant\nfrom volant.stages import collect\n"
        "made = volant.Project('.', device='cpu', threads=1).run(collect.files, glob='data/*', licence='MIT')\n"
        f"print(made.path, sum(made.about['splits'].values()), {peak_memory.KILOBYTES})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True)
    path, kept, kilobytes = done.stdout.split()
    assert int(kept) == 60 and int(kilobytes) < 600_000, kilobytes
    assert "data/a.jsonl:31" in (project / path / "refused.jsonl").read_text("utf-8")
