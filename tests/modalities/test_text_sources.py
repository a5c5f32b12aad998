"""Readers of documents, archives and crawls: what each takes out, and hostile files that are survived."""

import bz2
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import zipfile

import pytest

import peak_memory
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.sample import Sample, Source
from volant.modalities import open_modality, text_archives, text_documents, zip_archive
from volant.modalities.html_text import linked_licence

SOURCE = Source(uri="", licence="MIT")
TEXT = open_modality("text")
LINES = b'{"text": "one good line"}\n{"text": "another good line"}\n'


def read(folder, name, data, **options):
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    raw = path.read_bytes()
    file = OutsideFile(path, name, len(raw), hashlib.sha256(raw).hexdigest())
    return list(TEXT.load(file, options.pop("source", SOURCE), **options))


def texts(found):
    return [f.content for f in found if isinstance(f, Sample)]


def reasons(found):
    return [f"{f.where}: {f.reason}" for f in found if isinstance(f, Refusal)]


def pdf_of(*pages, date="", compress=False):
    """A PDF file with one line of text a page."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(b"BT /F1 12 Tf 20 200 Td (" + text.encode() + b") Tj ET" if isinstance(text, str) else text)
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode() if compress else stream)
    writer.add_metadata({"/ModDate": f"D:{date}120000Z"} if date else {})
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue(), writer


def docx_of(*paragraphs, rows=()):
    import docx

    document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if rows:
        table = document.add_table(len(rows), len(rows[0]))
        for cells, row in zip(rows, table.rows, strict=True):
            for text, cell in zip(cells, row.cells, strict=True):
                cell.text = text
    import datetime

    document.core_properties.modified = datetime.datetime(2021, 5, 6)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def zip_of(members, kind=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (2022, 3, 4, 0, 0, 0))
            info.compress_type = kind
            archive.writestr(info, data)
    return out.getvalue()


def tar_of(members, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in members.items():
            if isinstance(data, tarfile.TarInfo):
                data.name = name
                archive.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def special(kind, link=""):
    info = tarfile.TarInfo("x")
    info.type, info.linkname = kind, link
    return info


def warc_record(kind, body, **headers):
    head = {"WARC-Type": kind, "WARC-Date": "2023-04-05T06:07:08Z", "Content-Length": len(body), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"WARC/1.0\r\n{lines}\r\n".encode() + body + b"\r\n\r\n"


def warc_of(*pages, gz=True):
    """A crawl: (address, content type, body, status) of each page."""
    made = [warc_record("warcinfo", b"software: a test\r\n")]
    for address, kind, body, status in pages:
        answer = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\n".encode() + body
        named = {"WARC-Target-URI": address, "Content-Type": "application/http; msgtype=response"}
        made.append(warc_record("response", answer, **named))
    return b"".join(gzip.compress(record, mtime=0) if gz else record for record in made)


# --- documents -----------------------------------------------------------------------------------


def test_a_pdf_is_one_document_with_its_own_date(tmp_path):
    raw, _ = pdf_of("The first page speaks of bees.", "The second one of wasps.", date="20200102")
    found = read(tmp_path, "a.pdf", raw)
    assert texts(found) == ["The first page speaks of bees.\n\nThe second one of wasps."]
    assert found[0].source.collected_at == "2020-01-02" and found[0].group == "a.pdf"
    stated = SOURCE.model_copy(update={"collected_at": "2024-01-01"})
    assert read(tmp_path, "a.pdf", raw, source=stated)[0].source.collected_at == "2024-01-01"


def test_a_member_without_a_name_is_refused(tmp_path):
    found = read(tmp_path, "a.zip", zip_of({"a.txt": b"Some words.", "": b"Other words."}))
    assert texts(found) == ["Some words."] and reasons(found) == ["a.zip/: has no name"]


def test_a_library_says_nothing_beside_the_refusals(tmp_path, caplog):
    raw, _ = pdf_of("One page of words.", "Another page.")
    for number, spoilt in enumerate((raw[:-40], raw[:60], raw.replace(b"/Kids [", b"/Kids [ \x04"))):
        read(tmp_path, f"{number}.pdf", spoilt)
    assert caplog.records == []


def test_pdfs_that_cannot_be_read_say_why(tmp_path):
    raw, writer = pdf_of("Secret words.")
    writer.encrypt("key", algorithm="RC4-128")
    locked = io.BytesIO()
    writer.write(locked)
    assert "without a password" in reasons(read(tmp_path, "a.pdf", locked.getvalue()))[0]
    assert "shows no text" in reasons(read(tmp_path, "b.pdf", pdf_of(b" ")[0]))[0]
    assert "is no PDF" in reasons(read(tmp_path, "c.pdf", b"%PDF-1.7\nnothing"))[0]
    big, _ = pdf_of("A good page.", b"BT ET " * 2_000_000, compress=True)
    found = read(tmp_path, "d.pdf", big)
    assert texts(found) == ["A good page."] and "d.pdf[page 2]" in reasons(found)[0]


def test_a_word_file_gives_paragraphs_and_tables_in_order(tmp_path):
    found = read(tmp_path, "a.docx", docx_of("First words.", "", "More words.", rows=[("a", "b"), ("1", "2")]))
    assert texts(found) == ["First words.\n\nMore words.\n\na | b\n1 | 2"]
    assert found[0].source.collected_at == "2021-05-06"


def test_hostile_word_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_documents, "_UNPACKED", 5_000_000)
    good = docx_of("Words.")
    parts = {n: zipfile.ZipFile(io.BytesIO(good)).read(n) for n in zipfile.ZipFile(io.BytesIO(good)).namelist()}
    body = parts["word/document.xml"]
    bomb = parts | {"word/media/a.bin": bytes(6_000_000)}
    evil = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    entity = parts | {"word/document.xml": body.replace(b"<w:document", evil + b"<w:document", 1)}
    assert (
        "bomb" in reasons(read(tmp_path, "a.docx", zip_of(bomb)))[0]
        or "unpacks" in reasons(read(tmp_path, "a.docx", zip_of(bomb)))[0]
    )
    assert "declares entities" in reasons(read(tmp_path, "b.docx", zip_of(entity)))[0]
    assert "no word/document.xml" in reasons(read(tmp_path, "c.docx", zip_of({"x": b"y"})))[0]
    assert "is no zip file" in reasons(read(tmp_path, "d.docx", good[:500]))[0]
    dateless = {n: d for n, d in parts.items() if n != "docProps/core.xml"}
    rels = dateless["_rels/.rels"].replace(b"docProps/core.xml", b"docProps/app.xml")
    undated = read(tmp_path, "e.docx", zip_of(dateless | {"_rels/.rels": rels}))
    assert all(f.source.collected_at == "" for f in undated if isinstance(f, Sample))  # never the day of reading


def test_a_page_says_its_encoding_and_its_licence(tmp_path):
    page = '<meta charset="iso-8859-1"><p>Un caf\xe9 cr\xe8me et quelques mots de plus.'.encode("latin-1")
    assert texts(read(tmp_path, "a.html", page)) == ["Un caf\xe9 cr\xe8me et quelques mots de plus."]
    link = '<a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">CC</a>'
    assert read(tmp_path, "b.html", f"<p>Some free words.</p>{link}")[0].source.licence == "CC-BY-SA-4.0"
    assert linked_licence('<a href="https://creativecommons.org/licenses/by/4.0/">of something else</a>') == ""


# --- archives ------------------------------------------------------------------------------------

PACKED = {
    "a.jsonl.gz": gzip.compress(LINES, mtime=0),
    "a.jsonl.bz2": bz2.compress(LINES),
    "a.zip": zip_of({"in/a.jsonl": LINES}),
    "a.tar": tar_of({"in/a.jsonl": LINES}),
    "a.tgz": tar_of({"in/a.jsonl": LINES}, "w:gz"),
    "a.tar.gz": tar_of({"in/a.jsonl": LINES}, "w:gz"),
    "a.tar.bz2": tar_of({"in/a.jsonl": LINES}, "w:bz2"),
    "b.zip": zip_of({"in/a.jsonl.gz": gzip.compress(LINES, mtime=0)}),
}


@pytest.mark.parametrize("name", PACKED)
def test_what_is_packed_is_read_as_if_it_were_not(tmp_path, name):
    found = read(tmp_path, name, PACKED[name])
    assert texts(found) == ["one good line", "another good line"] and not reasons(found)
    assert found[1].source.uri.startswith(name) and found[1].source.uri.endswith(":2")


@pytest.mark.parametrize("ending", [".jsonl.zst", ".tar.zst"])
def test_zstandard(tmp_path, ending):
    import pyarrow as pa

    plain = LINES if ending == ".jsonl.zst" else tar_of({"in/a.jsonl": LINES})
    with pa.CompressedOutputStream(str(tmp_path / "made"), "zstd") as out:
        out.write(plain)
    assert len(texts(read(tmp_path, f"a{ending}", (tmp_path / "made").read_bytes()))) == 2


@pytest.mark.parametrize("name", PACKED)
def test_packed_files_cut_in_the_middle_say_so(tmp_path, name):
    for keep in (10, len(PACKED[name]) // 2, len(PACKED[name]) - 9):
        found = read(tmp_path, name, PACKED[name][:keep])
        assert all(isinstance(f, Sample | Refusal) for f in found)
        if not (name == "a.tar" and keep > 2000):  # only zeros are missing at its end
            assert reasons(found), (name, keep)


def test_archives_of_all_sorts(tmp_path):
    members = {
        "docs/a.txt": b"A text in an archive.", "docs/b.html": b"<p>A page in one.", "docs/c.csv": b"text\nA row.\n",
        "d.pdf": pdf_of("A page of it.")[0], "e.docx": docx_of("A letter."), "f.png": b"\x89PNG", "g.css": b"x",
    }  # fmt: skip
    for name, raw in (("a.zip", zip_of(members)), ("a.tar", tar_of(members))):
        found = read(tmp_path, name, raw)
        assert sorted(texts(found)) == sorted(
            ["A text in an archive.", "A page in one.", "A row.", "A page of it.", "A letter."]
        )
        assert reasons(found) == [f"{name}: files in it that are not read: 1 .png, 1 .css"]
        dates = {f.source.uri: f.source.collected_at for f in found if isinstance(f, Sample)}
        assert dates[f"{name}/docs/a.txt"] == ("2022-03-04" if name == "a.zip" else "2020-09-13")
        assert len({f.group for f in found if isinstance(f, Sample)}) == 5


def test_what_leaves_an_archive_is_refused_and_the_rest_stays(tmp_path):
    good = b"A good text in between."
    hostile = {
        "../../etc/passwd.txt": b"x y z", "/abs.txt": b"x y z", "a/../../b.txt": b"x y z", "C:\\w.txt": b"x y z",
        "link.txt": special(tarfile.SYMTYPE, "/etc/passwd"), "hard.txt": special(tarfile.LNKTYPE, "../x"),
        "dev.txt": special(tarfile.CHRTYPE), "fifo.txt": special(tarfile.FIFOTYPE), "good.txt": good,
    }  # fmt: skip
    found = read(tmp_path, "a.tar", tar_of(hostile))
    assert texts(found) == [good.decode()] and len(reasons(found)) == 8
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../up.txt", "x y z")
        archive.writestr("good.txt", good)
    found = read(tmp_path, "a.zip", out.getvalue())
    assert texts(found) == [good.decode()]
    assert "is a link" in reasons(found)[0] and "outside of the archive" in reasons(found)[1]


def test_bombs_are_refused_before_they_unpack(tmp_path, monkeypatch):
    for module in (text_archives, zip_archive):
        monkeypatch.setattr(module, "FREE", 1_000_000)
    nested = zip_of({"a.zip": zip_of({"b.txt": b"x" * 100})})
    assert "archive in an archive" in reasons(read(tmp_path, "n.zip", nested))[0]
    flat = (b" " * 999_999 + b"\n") * 30
    bombs = {"a.jsonl.gz": gzip.compress(flat), "a.tar.gz": tar_of({"a.jsonl": flat}, "w:gz"),
             "a.zip": zip_of({"a.jsonl": flat}), "a.jsonl.gz.gz": gzip.compress(gzip.compress(LINES))}  # fmt: skip
    for name, raw in bombs.items():
        found = reasons(read(tmp_path, name, raw))
        assert found and ("bomb" in found[0] or "twice" in found[0]), (name, found)


def test_a_tar_header_that_asks_for_memory_is_refused(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    assert (
        "holds a header of 8,589,934,592 bytes"
        in reasons(read(tmp_path, "a.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))[0]
    )


def test_webdataset_joins_files_of_one_key(tmp_path):
    shard = tar_of({
        "s/000.txt": b"A text with facts beside it.", "s/000.json": b'{"lang": "en"}', "s/000.jpg": b"\xff\xd8",
        "s/001.json": b'{"prompt": "p", "completion": "c"}', "s/001.cls": b"3",
        "s/002.txt": b"A text alone.", "s/003.json": b"{", "s/003.txt": b"x",
    })  # fmt: skip
    found = read(tmp_path, "a.tar", shard)
    kept = [f for f in found if isinstance(f, Sample)]
    assert [s.source.uri for s in kept] == ["a.tar/s/000", "a.tar/s/001", "a.tar/s/002.txt"]
    assert kept[0].content == "A text with facts beside it." and kept[1].target == "c"
    assert any("a.tar/s/003" in r and "not JSON" in r for r in reasons(found))


# --- crawls --------------------------------------------------------------------------------------

PAGE = b"<html><body><nav>menu</nav><main><p>A page about bees and their long days.</p></main></body></html>"
CRAWL = (
    ("https://a.example/1", "text/html; charset=utf-8", PAGE, "200 OK"),
    ("https://a.example/2", "text/plain", b"Plain words of a page.", "200 OK"),
    ("https://a.example/3", "image/png", b"\x89PNG", "200 OK"),
    ("https://a.example/4", "text/html", PAGE, "404 Not Found"),
)


@pytest.mark.parametrize("gz", [True, False])
def test_a_crawl_gives_its_pages_with_address_and_date(tmp_path, gz):
    found = read(tmp_path, "c.warc.gz" if gz else "c.warc", warc_of(*CRAWL, gz=gz))
    pages = [f for f in found if isinstance(f, Sample)]
    assert [p.content for p in pages] == ["A page about bees and their long days.", "Plain words of a page."]
    assert pages[0].source.uri == pages[0].group == "https://a.example/1"
    assert pages[0].source.collected_at == "2023-04-05" and pages[0].attrs["file"].endswith("[1]")
    assert "records that are no pages: 1 warcinfo, 1 image/png, 1 status 404" in reasons(found)[0]


def test_a_crawl_cut_in_the_middle_keeps_what_is_whole(tmp_path):
    for gz, name in ((True, "c.warc.gz"), (False, "c.warc")):
        raw = warc_of(*CRAWL[:2], *CRAWL[:1], gz=gz)
        found = read(tmp_path, name, raw[:-60])
        assert len(texts(found)) == 2 and any("cut off" in r for r in reasons(found)), (name, reasons(found))


def test_hostile_crawls(tmp_path):
    good = warc_of(CRAWL[0], gz=False)
    for bad in (
        b"junk\n" * 50 + b"\n",
        b"WARC/1.0\r\n" + b"x" * 400_000,
        b"WARC/1.0\r\nContent-Length: -4\r\n\r\n\r\n",
    ):
        found = read(tmp_path, "c.warc", bad + b"\r\n\r\n" + good)
        assert len(texts(found)) == 1 and reasons(found)
    squeezed = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
    squeezed += gzip.compress(b"<p>" + b"a " * 20_000_000)
    named = {"Content-Type": "application/http", "WARC-Target-URI": "https://a.example/"}
    found = read(tmp_path, "c.warc", warc_record("response", squeezed, **named) + good)
    assert len(texts(found)) == 1 and "unpacks into more than" in reasons(found)[0]


# --- tables and lines ----------------------------------------------------------------------------


def test_a_bad_line_of_a_table_costs_one_line(tmp_path):
    raw = b'text\ngood one\ncaf\xe9\nwith \0 NUL\n"two\nlines"\n"torn\n\xff\nrecord"\nlast\n'
    found = read(tmp_path, "a.csv", raw)
    assert texts(found) == ["good one", "two\nlines", "last"]
    assert [f.where for f in found if isinstance(f, Refusal)] == ["a.csv:3", "a.csv:4", "a.csv:8", "a.csv:9"]
    assert texts(read(tmp_path, "b.csv", "text\né\n".encode("utf-16"))) == ["é"]


def test_records_may_state_their_own_source(tmp_path):
    rows = [
        {"text": "free words", "license": "cc-by-4.0", "date": "2020-01-01T10:00:00", "url": "https://a.example"},
        {"text": "of no terms", "license": "", "date": "", "url": ""},
        {"text": "of odd terms", "license": "CC-BY-9000", "date": "", "url": ""},
        {"text": "of no day", "license": "MIT", "date": "24.11.2026", "url": ""},
    ]
    fields = {"licence": "license", "collected_at": "date", "uri": "url"}
    found = read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)), fields=fields)
    source = found[0].source
    assert (source.licence, source.collected_at, source.uri) == ("CC-BY-4.0", "2020-01-01", "https://a.example")
    assert "no licence is given" in reasons(found)[0] and "SPDX lists no licence" in reasons(found)[1]
    assert reasons(found)[2] == "a.jsonl:4: states no day as in 2026-11-24, but '24.11.2026'"
    stated = SOURCE.model_copy(update={"collected_at": "2024-01-01"})
    own = read(tmp_path, "a.jsonl", json.dumps(rows[0]), fields=fields, source=stated)[0]
    assert own.source.collected_at == "2020-01-01"  # its own goes before what is stated of all


def test_random_and_flipped_bytes_never_raise(tmp_path):
    dice = random.Random(0)
    good = {"a.pdf": pdf_of("Words of a page.")[0], "a.docx": docx_of("Words."), "a.warc": warc_of(*CRAWL, gz=False),
            **PACKED}  # fmt: skip
    for name, raw in good.items():
        for _ in range(12):
            spoilt = bytearray(raw)
            for _ in range(dice.choice((1, 4, 40))):
                spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
            assert all(isinstance(f, Sample | Refusal) for f in read(tmp_path, name, bytes(spoilt)))
        assert reasons(read(tmp_path, name, dice.randbytes(3000)))


@pytest.mark.slow
def test_a_line_of_two_gigabytes_is_passed_over_in_little_memory(tmp_path):
    for name in ("a.jsonl", "a.csv"):
        path = tmp_path / name
        path.write_bytes(b"text\ngood\n" if name == "a.csv" else b'{"text": "good"}\n')
        with path.open("r+b") as file:
            file.seek(1 << 31)
            file.write(b'\n{"text": "good"}\n' if name == "a.jsonl" else b"\ngood\n")
        program = (
            "import sys, pathlib\n"
            "from volant.core.outside import OutsideFile\nfrom volant.core.sample import Source\n"
            "from volant.modalities import open_modality\n"
            "path = pathlib.Path(sys.argv[1])\n"
            "text = open_modality('text')\n"
            f"before = {peak_memory.KILOBYTES}\n"
            "found = list(text.load(OutsideFile(path, path.name, path.stat().st_size, ''),"
            " Source(uri='', licence='MIT')))\n"
            f"print(len(found), {peak_memory.KILOBYTES} - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
        count, kilobytes = map(int, done.stdout.split())
        assert count == 3 and kilobytes < 200_000, (name, kilobytes)
