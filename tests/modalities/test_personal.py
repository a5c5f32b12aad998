"""Personal data: what says who somebody is goes, and what only looks like it stays."""

import re
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.modalities import check_digits, personal
from volant.modalities.personal import counted, masked, masked_all
from volant.modalities.personal_kinds import KINDS, SIGN

# Published examples of their makers, or numbers made for tests, with the same number one digit off.
NUMBERS = [
    ("card", "4111\u00a01111\u00a01111\u00a01111", "4111\u00a01111\u00a01111\u00a01112"),
    ("card", "5555\u20115555\u20105555\u20114444", "5555\u20115555\u20115555\u20114445"),
    ("iban", "GB82\u202fWEST\u202f1234\u202f5698\u202f7654\u202f32", "GB83 WEST\u202f1234 5698 7654 32"),
    ("card", "4111 1111 1111 1111", "4111 1111 1111 1112"),
    ("card", "378282246310005", "378282246310006"),
    ("card", "5555-5555-5555-4444", "5555-5555-5555-4445"),
    ("iban", "GB82 WEST 1234 5698 7654 32", "GB83 WEST 1234 5698 7654 32"),
    ("iban", "DE89370400440532013000", "DE8937040044053201300"),
    ("iban", "MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST002S"),
    ("iban", "GB82-WEST-1234-5698-7654-32", "GB83-WEST-1234-5698-7654-32"),
    ("iban", "de89 3704 0044 0532 0130 00", "de88 3704 0044 0532 0130 00"),
    ("iban", "gb82west12345698765432", "gb83west12345698765432"),
    ("national_id", "078-05-1120", "000-05-1120"),
    ("national_id", "AB123456C", "GB123456C"),
    ("national_id", "86095742719", "86095742718"),
    ("national_id", "2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
    ("national_id", "12345678Z", "12345678A"),
    ("national_id", "X1234567L", "X1234567M"),
    ("national_id", "MRTMTT25D09F205Z", "MRTMTT25D09F205Y"),
    ("national_id", "2341 2341 2346", "2341 2341 2345"),
    ("national_id", "529.982.247-25", "529.982.247-26"),
    ("national_id", "11010519491231002X", "110105194912310020"),
    ("national_id", "HEGG560427MVZRRL04", "HEGG560427MVZRRL05"),
    ("national_id", "131052-308T", "131052-308U"),
    ("national_id", "811228-9874", "811228-9875"),
    ("national_id", "85.07.30-033.28", "85.07.30-033.29"),
    ("national_id", "756.9217.0769.85", "756.9217.0769.84"),
    ("national_id", "PESEL 44051401359", "PESEL 44051401358"),
    ("national_id", "BSN: 111222333", "BSN: 111222334"),
    ("national_id", "NHS number: 943 476 5919", "NHS number: 943 476 5918"),
    ("national_id", "SIN 046 454 286", "SIN 046 454 287"),
    ("ip", "93.184.216.34", "10.184.216.34"),
    ("ip", "2a00:1450:4001:81b::200e", "2001:db8:4001:81b::200e"),
    ("phone", "+4915112345678", "+4900012345678"),
    ("phone", "+44 20 7946 0958", "44 20 7946 0958"),
    ("phone", "0033 1 44 55 66 77", "0033 0 44 55 66 77"),
    ("phone", "01 23 45 67 89", "01 23 45 67 8"),
    ("phone", "020 7946 0958", "040 7946 0958"),
    ("phone", "07400 125858", "00400 125858"),
    ("phone", "415.555.2671", "115.555.2671"),
    ("email", "ann.b@firm.co.uk", "icon@2x.png"),
    ("email", "zoë@post.io", "zoë@post.test"),
    ("email", "info@münchen.de", "info@münchen.test"),
    ("email", "иван@почта.рф", "иван@почта.р"),
    ("email", "ann@xn--e1afmkfd.xn--p1ai", "ann@xn--e1afmkfd"),
    ("secret", "ghp_" + "a1B2" * 9, "ghp_" + "a1B2" * 8),
    ("secret", "AKIA" + "Z9Y8X7W6V5U4T3S2", "AKIA" + "z9y8x7w6v5u4t3s2"),
    ("secret", 'api_key = "k3Jd82mQpX0vLs7Nw"', 'api_key = "your-key-goes-here"'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "true", "false"), NUMBERS)
def test_a_number_counts_when_its_check_holds(kind, true, false):
    for shown in (f"It is {true}, he said.", true, f"({true})", f"Zeile eins\n{true}\nzwei"):
        assert masked(shown)[1] == {kind: 1}, shown
        assert masked(shown)[0].count(f"<{kind}>") == 1
    assert masked(f"It is {false}, he said.")[1] == {}


@pytest.mark.parametrize(
    "text",
    [
        "On 2024-01-02 10:15:30 it took 1234567 steps, 12,345,678 bytes and 3.14159265358979 s.",
        "x = 0x1234567890abcdef; y = 12345678901234567890; z = 1e-10",
        "git@github.com:org/repo.git and https://docs.python.org/3.11/library/re.html#section-8.1.2.2",
        "See section 8.2.4.45 of version 10.4.2.1; the years 1998-2003 and 2010/2012.",
        "std::vector<int>::iterator a::b::c, 12:30:45, ab:cd:ef:01:23:45, 3.1.4.1.5",
        "uuid 123e4567-e89b-12d3-a456-426614174000, sha 9f86d081884c7d659a2feaa0c55ad015",
        "@decorator and a@b and user@example.com and root@localhost",
        "ISBN 978-3-16-148410-0, DOI 10.1000/182, tel. 12, EAN 4006381333931 and 4000000000006, since 1732459512345",
        "md5 d41d8cd98f00b204e9800998ecf8427e, commit da39a3ee5e6b4b0d3255bfef95601890afd80709, build 2024.11.24.1",
        "id 7f3a91c2-0000-4111-8111-411111111111, 00:1a:2b:3c:4d:5e, #a1b2c3, 52.520008, 13.404954, SN-1234-123456-B",
        "1.2.3-rc.4+build.5, 2024-11-24T16:30:00.123456Z, 24.11.2024, 11/24/2024, week 2024-W47, 16:30:00+01:00",
        'password = "changeme-please-1", token: "<your-token-0123>"',
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert masked(text) == (text, {})


def test_a_private_key_is_masked_over_its_lines():
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
    texts, counts = masked_all(pa.array([f"a\n{key}\nb", None, "plain"]))
    assert texts.to_pylist() == ["a\n<secret>\nb", None, "plain"]
    assert counts["secret"].to_pylist() == [1, 0, 0] and counts["email"].to_pylist() == [0, 0, 0]


def test_of_two_that_overlap_the_earlier_kind_wins():
    assert masked("call 4111 1111 1111 1111 now")[1] == {"card": 1}
    assert masked("AT61 1904 3002 3457 3201 THIS WORD")[0] == "<iban> THIS WORD"
    assert masked("at61 1904 3002 3457 3201 this word")[0] == "<iban> this word"


def test_no_blank_is_needed_beside_letters_that_are_not_latin():
    assert masked("请写信给ann@firm.de谢谢，卡号4111111111111111。")[0] == "请写信给<email>谢谢，卡号<card>。"
    assert masked("тел+4915112345678и")[0] == "тел<phone>и"
    assert masked("A4111111111111111 éann@firm.de")[1] == {"email": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.core[:20])
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_is_found_has_a_sign(kind, data):
    """`SIGN` lets no line pass by in which a kind could be found."""
    text = data.draw(st.from_regex(re.compile(kind.core, re.ASCII), fullmatch=True))
    group = re.fullmatch(kind.core, text, re.ASCII)
    if group and kind.holds(group["n"] if "n" in group.groupdict() else text) or kind.name not in ("phone", "ip"):
        assert re.search(SIGN, text, re.ASCII)


def test_many_findings_take_time_in_proportion():
    keys = "-----BEGIN PRIVATE KEY-----" * 30_000 + ", 4111111111111111" * 10_000
    start = time.process_time()
    assert masked(keys)[1] == {"secret": 30_000, "card": 10_000}
    assert time.process_time() - start < 10, "each finding is held against all"


PARTS = st.sampled_from(
    [*(true for _, true, _ in NUMBERS), *(false for _, _, false in NUMBERS), "word", "é", "7", "@", "卡", "٣", "Ж", "-"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(PARTS, st.sampled_from([" ", "\n", ", ", "\r\n"])), max_size=6), max_size=5))
def test_many_texts_at_once_are_masked_as_one_by_one(texts):
    lines = ["".join(part + gap for part, gap in parts) for parts in texts]
    together, counts = masked_all(pa.array(lines, pa.large_string() if len(lines) % 2 else pa.string()))
    assert together.to_pylist() == [masked(line)[0] for line in lines]
    for at, line in enumerate(lines):
        found = {name: counts[name][at].as_py() for name in personal.NAMES if counts[name][at].as_py()}
        assert found == masked(line)[1]
    assert {name: v.to_pylist() for name, v in counted(pa.array(lines, pa.string())).items()} == {
        name: v.to_pylist() for name, v in counts.items()
    }


def test_one_wrong_digit_is_caught():
    """Luhn, Verhoeff, mod 11,10 and mod 97 find each single wrong digit; that is what they are for."""
    cases = [
        (check_digits.luhn, "4539578763621486"), (check_digits.verhoeff, "234123412346"),
        (check_digits.steuer_id, "86095742719"), (check_digits.iban, "DE89370400440532013000"),
    ]  # fmt: skip
    for check, number in cases:
        assert check(number)
        for at, digit in enumerate(number):
            if digit.isdigit():
                others = [number[:at] + str(d) + number[at + 1 :] for d in range(10) if str(d) != digit]
                assert not any(check(other) for other in others)
