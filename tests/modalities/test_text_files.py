"""Reading files: every format and shape, and bad bytes that cost one record each."""

import hashlib
import io
import json
import random

import pytest

from volant.core.errors import SettingError
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.sample import Sample, Source
from volant.modalities import open_modality, text_entry
from volant.modalities.html_text import main_text
from volant.modalities.text import cut
from volant.modalities.zip_archive import BadFile

SOURCE = Source(uri="", licence="MIT")
TEXT = open_modality("text")
USER = {"role": "user", "content": "p"}


def turn(content):
    return {"role": "assistant", "content": content}


def read(folder, name, data, **options):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    raw = path.read_bytes()
    file = OutsideFile(path, name, len(raw), hashlib.sha256(raw).hexdigest())
    return list(TEXT.load(file, SOURCE, **options))


def lines(*records):
    return "\n".join(json.dumps(r) for r in records)


def one(found):
    assert len(found) == 1 and isinstance(found[0], Sample), found
    return found[0]


@pytest.mark.parametrize(
    ("record", "shape", "prompt", "answer"),
    [
        ({"prompt": "p", "completion": "c"}, "completion", "p", "c"),
        ({"prompt": "p", "response": "c"}, "completion", "p", "c"),
        ({"instruction": "do", "input": "it", "output": "done"}, "completion", "do\n\nit", "done"),
        ({"instruction": "do", "input": "", "output": "done"}, "completion", "do", "done"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "preference", "p", "a"),
        ({"chosen": [USER, turn("a")], "rejected": [USER, turn("b")]}, "preference", "p", "a"),
        ({"prompt": [USER], "completion": [turn("c")]}, "messages", "p", "c"),
        ({"messages": [USER, turn("c")]}, "messages", "p", "c"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "p"}]}, turn("c")]}, "messages", "p", "c"),
        ({"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "c"}]}, "messages", "p", "c"),
    ],
)  # fmt: skip
def test_shapes_of_the_field(tmp_path, record, shape, prompt, answer):
    sample = one(read(tmp_path, "a.jsonl", lines(record)))
    assert sample.shape == shape and sample.source.uri == "a.jsonl:1"
    if shape == "preference":
        assert (sample.condition, sample.target, sample.rejected) == (prompt, answer, "b")
    else:
        assert [m["content"] for m in sample.messages] == [prompt, answer]
    assert TEXT.check(sample) == []


SYSTEM = {"role": "system", "content": "s"}
MORE = [USER, turn("one"), {"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"chosen": [*MORE, turn("a")], "rejected": [*MORE, turn("b")]}, MORE),
        ({"prompt": [SYSTEM, USER], "chosen": [turn("a")], "rejected": [turn("b")]}, [SYSTEM, USER]),
        ({"prompt": MORE, "chosen": "a", "rejected": "b"}, MORE),
        ({"prompt": MORE, "chosen": [*MORE, turn("a")], "rejected": [*MORE, turn("b")]}, MORE),
        ({"prompt": [SYSTEM], "chosen": [*MORE, turn("a")], "rejected": [*MORE, turn("b")]}, [SYSTEM, *MORE]),
        ({"prompt": [SYSTEM, USER], "chosen": [USER, turn("a")], "rejected": [USER, turn("b")]}, [SYSTEM, USER]),
        ({"prompt": "p", "chosen": [USER, turn("a")], "rejected": [USER, turn("b")]}, [USER]),
        ({"prompt": "", "chosen": [USER, turn("a")], "rejected": [USER, turn("b")]}, [USER]),
        ({"prompt": "p", "chosen": [*MORE, turn("a")], "rejected": [*MORE, turn("b")]}, MORE),
    ],
)
def test_pairs_of_dialogues(tmp_path, record, turns):
    sample = one(read(tmp_path, "a.jsonl", lines(record)))
    assert sample.messages == [*turns, turn("a")] and sample.rejected == "b" and TEXT.check(sample) == []
    assert sample.text == "\n".join([*(t["content"] for t in turns), "a", "b"])
    assert sample.group == one(read(tmp_path, "b.jsonl", lines({"prompt": "p", "completion": "c"}))).group
    again = one(read(tmp_path, "c.jsonl", TEXT.deliver([sample], "jsonl")))
    assert again.id == sample.id


def test_pairs_of_dialogues_in_cells_of_text(tmp_path):
    record = {"prompt": MORE, "chosen": [turn("a")], "rejected": [turn("b")]}
    cells = {name: json.dumps(turns) for name, turns in record.items()}
    assert one(read(tmp_path, "a.jsonl", lines(cells))).id == one(read(tmp_path, "b.jsonl", lines(record))).id
    for text in ('[{"a": 1}]', "[]", "[1", "[1]"):  # answers that are JSON stay what they are
        assert one(read(tmp_path, "c.jsonl", lines({"prompt": "p", "chosen": text, "rejected": "b"}))).target == text


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": [USER, turn("x")], "chosen": "a", "rejected": "b"}, "last turn is not the user's"),
        ({"prompt": "z", "chosen": [USER, turn("a")], "rejected": [USER, turn("b")]}, "none of the turns"),
        ({"chosen": [USER, turn("a")], "rejected": [USER, turn("a")]}, "the same text as chosen and as rejected"),
        ({"chosen": [USER, turn("a"), *MORE, turn("c")], "rejected": [USER, turn("b")]}, "5 turns in chosen"),
        ({"chosen": [USER, turn("a")], "rejected": [{"role": "user", "content": "z"}, turn("b")]}, "2 turns in chosen"),
        ({"prompt": "p", "chosen": [USER], "rejected": [turn("b")]}, "one of the assistant's"),
    ],
)
def test_pairs_that_are_no_two_answers_to_one_dialogue_are_refused(tmp_path, record, reason):
    (found,) = read(tmp_path, "a.jsonl", lines(record))
    assert isinstance(found, Refusal) and reason in found.reason


def test_turns_of_a_pair_are_checked():
    bad = [("[]", "last turn"), ('[{"role": "robot", "content": "x"}]', "robot"), ("x", "no JSON")]
    for content, said in bad:
        pair = Sample(id="x", shape="preference", source=SOURCE, content=content, target="a", rejected="b")
        assert any(said in problem for problem in TEXT.check(pair))


@pytest.mark.parametrize("prompt", [{"prompt": "p", "completion": "c"}, {"prompt": [USER], "completion": [turn("c")]}])
def test_thumbs_are_ratings(tmp_path, prompt):
    good, bad, plain = read(tmp_path, "a.jsonl", lines({**prompt, "label": True}, {**prompt, "label": False}, prompt))
    assert [[(label.name, label.value) for label in s.labels] for s in (good, bad, plain)] == [
        [("rating", "1")], [("rating", "-1")], [],
    ]  # fmt: skip
    assert [s.rated_down for s in (good, bad, plain)] == [False, True, False]


def test_one_prompt_stays_in_one_split(tmp_path):
    found = read(tmp_path, "a.jsonl", lines(*({"prompt": "same", "completion": f"c{i}"} for i in range(40))))
    assert len({s.split for s in found}) == 1 and len({s.id for s in found}) == 40


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "no JSON object"),
        (b'{"a": 1}', "none of the known shapes"),
        (b'{"text": 5}', "of type int"),
        (b'{"text": "a\\u0000b"}', "NUL"),
        (b'{"text": "a\\ud800b"}', "lone surrogate"),
        (b'{"text": "caf\xe9"}', "not utf-8 at byte 13"),
        (b'{"text": "  "}', "empty"),
        (b'{"prompt": "p"}', "without completion"),
        (b'{"prompt": "p", "completion": ""}', "empty completion"),
        (b'{"messages": [{"role": "user", "content": "p"}]}', "no assistant turn"),
        (b'{"messages": [{"role": "tool", "content": "p"}]}', "role 'tool'"),
        (b'{"messages": "p"}', "not a list"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "other than text"),
        (b'{"prompt": "p", "chosen": "a", "rejected": "a"}', "same text"),
        (b"[" * 100_000, "not JSON"),
        (b"\0\0\0", "not JSON"),
    ],
)
def test_a_bad_line_costs_one_line_and_is_named(tmp_path, line, reason):
    good = b'{"text": "good"}'
    found = read(tmp_path, "a.jsonl", b"\n".join([good, line, good]))
    assert [type(f) for f in found] == [Sample, Refusal, Sample]
    assert found[1].where == "a.jsonl:2" and reason in found[1].reason


def test_huge_lines_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(text_entry, "MAX_LINE", 100)
    found = read(tmp_path, "a.jsonl", lines({"text": "a"}, {"text": "b" * 1000}, {"text": "c"}))
    assert [getattr(f, "content", None) for f in found] == ["a", None, "c"] and found[1].where == "a.jsonl:2"


def test_random_bytes_never_raise(tmp_path):
    dice = random.Random(0)
    for name in ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.md", "a.html", "a.parquet"):
        for size in (0, 1, 50, 4000):
            for item in read(tmp_path, name, dice.randbytes(size)):
                assert isinstance(item, Sample | Refusal)


def test_csv_tsv_json_parquet_agree(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": f'p "{i}",\n x', "completion": f"c{i}"} for i in range(3)]
    quoted = "prompt,completion\n" + "".join(
        '"{}","{}"\n'.format(r["prompt"].replace('"', '""'), r["completion"]) for r in rows
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    got = [
        read(tmp_path, "a.csv", quoted),
        read(tmp_path, "a.tsv", quoted.replace('","', '"\t"').replace("prompt,", "prompt\t")),
        read(tmp_path, "a.json", json.dumps(rows)),
        read(tmp_path, "a.parquet", (tmp_path / "x.parquet").read_bytes()),
        read(tmp_path, "a.jsonl", lines(*rows)),
    ]
    assert all([s.id for s in found] == [s.id for s in got[0]] and len(found) == 3 for found in got)


def test_a_short_csv_row_names_its_line(tmp_path):
    found = read(tmp_path, "a.csv", "prompt,completion\na,b\nc\nd,e\n")
    assert isinstance(found[1], Refusal) and found[1].where == "a.csv:3" and "1 cells" in found[1].reason


def test_own_field_names(tmp_path):
    found = read(tmp_path, "a.jsonl", lines({"q": "p", "a": "c"}), fields={"prompt": "q", "completion": "a"})
    assert one(found).target == "c"
    missing = read(tmp_path, "a.jsonl", lines({"q": "p"}), fields={"prompt": "question"})
    assert "no field 'question'" in missing[0].reason


def test_encodings(tmp_path):
    assert one(read(tmp_path, "a.txt", "é".encode("utf-16"))).content == "é"
    assert one(read(tmp_path, "b.txt", "\ufeffé".encode())).content == "é"
    assert one(read(tmp_path, "c.txt", "é".encode("latin-1"), encoding="latin-1")).content == "é"
    refused = read(tmp_path, "d.txt", b"one\ntwo \xe9")
    assert refused[0].where == "d.txt:2" and "0xe9" in refused[0].reason


def test_empty_and_unknown_files_are_refused(tmp_path):
    assert "empty" in read(tmp_path, "a.jsonl", b"")[0].reason
    assert "no reader for .doc. Did you mean '.docx'" in read(tmp_path, "a.doc", b"x")[0].reason


def test_html_keeps_the_text_and_drops_the_page():
    page = """<html><head><title>T &amp; t</title><style>p{}</style></head><body><nav>menu</nav>
    <header>site</header><main><header><h1>Head</h1></header><p>One <b>bold</b> word.</p><pre>a\n    b</pre>
    <script>evil()</script><ul><li>x<li>y</ul></main><footer>foot</footer><p>after"""
    title, text = main_text(page)
    assert title == "T & t"
    assert "One bold word." in text and "    b" in text and "Head" in text and "x\n" in text
    assert not any(word in text for word in ("menu", "site", "evil", "foot", "after"))
    # No head, or one that is never closed, as HTML allows.
    assert main_text("<title>T</title><p>a") == main_text("<head><title>T</title><body><p>a") == ("T", "a")
    assert main_text("<p>unclosed <nav><div>") == ("", "unclosed")


def test_documents_are_cut_at_blank_lines(tmp_path):
    text = "\n\n".join(f"paragraph {i} " + "word " * 30 for i in range(20))
    pieces = cut(text, 500)
    assert all(0 < len(p) <= 500 for p in pieces) and all(p.startswith("paragraph") for p in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert "".join(cut("x" * 1000, 300)) == "x" * 1000
    found = read(tmp_path, "a.txt", text, piece_chars=500)
    assert [s.content for s in found] == pieces and {s.group for s in found} == {"a.txt"}


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_what_is_delivered_is_read_back(tmp_path, form):
    records = [
        {"text": "t <b>"},
        {"prompt": "p", "completion": "c"},
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": [SYSTEM, USER], "chosen": [turn("a")], "rejected": [turn("b")]},
        {"messages": [{"role": "user", "content": "é\n```\n"}, turn("c")]},
    ]
    samples = read(tmp_path, "a.jsonl", lines(*records))
    again = read(tmp_path, f"b.{form}", TEXT.deliver(samples, form))
    assert [s.id for s in again] == [s.id for s in samples]


def test_markdown_html_and_previews_hold_the_text_escaped(tmp_path):
    samples = read(tmp_path, "a.jsonl", lines({"prompt": "<script>x</script> ```", "completion": "an answer & more"}))
    page = TEXT.deliver(samples, "html")
    assert b"<script>" not in page and "an answer & more" in one(read(tmp_path, "b.html", page)).content
    assert "an answer & more" in one(read(tmp_path, "b.md", TEXT.deliver(samples, "markdown"))).content
    assert "<script>" not in TEXT.preview(samples) and "&lt;script&gt;" in TEXT.preview(samples)


def test_check_names_what_is_wrong():
    bad = Sample(id="x", shape="messages", source=SOURCE, content='[{"role": "robot", "content": "x"}]')
    assert any("robot" in p for p in TEXT.check(bad)) and any("assistant" in p for p in TEXT.check(bad))
    assert TEXT.check(Sample(id="x", shape="completion", source=SOURCE, condition="a")) == ["its target is missing"]
    assert "image" not in TEXT.shapes and TEXT.check(Sample(id="x", shape="media", source=SOURCE, media=b"x"))


def test_unknown_modality_names_the_nearest():

    with pytest.raises(SettingError, match="Did you mean 'text'"):
        open_modality("txt")


@pytest.mark.parametrize("size", [-1, 6])
def test_what_is_read_whole_is_never_cut_off_unsaid(size):
    entry = text_entry.Entry("a.csv", lambda: io.BytesIO(b"abcdef"), size)
    assert text_entry.rest_of(entry, io.BytesIO(b"cdef"), b"ab", most=6) == text_entry.whole(entry, 6) == b"abcdef"
    with pytest.raises(BadFile, match="one document may have 5"):
        text_entry.rest_of(entry, io.BytesIO(b"cdef"), b"ab", most=5)
