"""The kinds of personal data that a pattern can find, each with what makes sure of it.

A kind is a pattern that RE2 understands (`core`), what may not stand beside it (`before`, `after`), and a check of what
was matched: check digits, a public address, a number that is in a numbering plan. So the core can be looked for in
millions of texts at once, and only where it occurs is the check made. Where a number has no check digits, it counts
only as people write it (`123-45-6789`), or after a word that says what it is (`BSN 111222333`).

Earlier kinds win: what is a card is no telephone number. Those of one name are masked alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from volant.modalities import check_digits as check
from volant.modalities.personal_checks import british, dialled, in_plan, mailbox, public, random

Check = Callable[[str], int]
# What a number or an address may not run on from or into. Chinese and Japanese put no blank between words and numbers,
# so letters beyond the Latin ones end both.
_WORD = "0-9A-Za-z_\u00c0-\u024f"


@dataclass(frozen=True)
class Kind:
    """One pattern of personal data.

    Attributes:
        name: how it is counted and masked (`email`).
        core: what is looked for, without lookaround; a group `n` holds the part that is masked, if not all of it.
        holds: of the masked part, how many characters belong to it; 0 if it is none.
        before, after: lookarounds of the core.
        lines: whether it may run over the end of a line.
    """

    name: str
    core: str
    holds: Check
    before: str = rf"(?<![{_WORD}])"
    after: str = rf"(?![{_WORD}])"
    lines: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The core with its lookarounds; `\\d` and `\\w` of the core are ASCII, as RE2 reads them."""
        return re.compile(f"{self.before}(?a:{self.core}){self.after}")

    @property
    def gate(self) -> str:
        """The core as RE2 reads it: a text in which it does not occur needs no further look."""
        return self.core.replace("(?P<n>", "(?:")


def _if(test: Callable[[str], bool]) -> Check:
    return lambda found: len(found) * test(found)


def _plain(test: Callable[[str], bool], digits: int = 0) -> Check:
    """The test on what was matched without its blanks and punctuation; of `digits` characters, if stated."""

    def holds(found: str) -> int:
        code = re.sub(r"[^A-ZÑ0-9]", "", found)
        return len(found) * ((not digits or len(code) == digits) and test(code))

    return holds


def _iban(found: str) -> int:
    """Words may follow an IBAN, so only as many characters as its country has are looked at.

    In small letters it is one only in digits behind the country, or where it is matched whole: hexadecimal numbers and
    words begin like one, too.
    """
    there = [i for i, c in enumerate(found) if c not in " -"]
    places = there[: check.iban_length(found[:2].upper())]
    code = "".join(found[i] for i in places)
    if not code.isupper() and not code[2:].isdecimal() and len(places) < len(there):
        return 0
    return places[-1] + 1 if places and check.iban(code.upper()) else 0


_PRIVATE_KEY = r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[A-Za-z0-9+/=\s]*(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----)?"
_KEYS = "|".join(
    (
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # Amazon
        r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{50,}\b|\bglpat-[A-Za-z0-9_-]{20}\b",
        r"\bxox[abeprs]-[A-Za-z0-9-]{10,}\b",  # Slack
        r"\b[rs]k_live_[A-Za-z0-9]{16,}\b",  # Stripe
        r"\bAIza[0-9A-Za-z_-]{35}\b",  # Google
        r"\bsk-(?:proj-|ant-|or-)?[A-Za-z0-9_]{20,}\b",
        r"\bhf_[A-Za-z0-9]{34}\b|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgEI[A-Za-z0-9_-]{50,}\b",
        r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b",  # SendGrid
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # a signed token (JWT)
    )
)
_NAMED_KEY = (
    r"(?i:api_?-?key|secret|token|passwd|password|credential)\w{0,20}[\"']?[ \t]{0,4}[:=][ \t]{0,4}"
    r"[\"'](?P<n>[^\s\"']{12,128})[\"']"
)
_CALL = (
    r"(?i:tel|telephone|phone|mobile|cell|fax|call|whatsapp|telefon|handy|mobil|t[eé]l[eé]phone|tel[eé]fono)\.?"
    r"(?i: ?(?:no|nr|number|us|me))?(?i: at| on)?\.? ?[:=]? ?(?P<n>\(?\+?\d[\d ()./-]{5,18}\d)"
)
_BEYOND = "\u0370-\u04ff"  # Greek and Cyrillic letters, in which some domains are written
_HOST = rf"(?:[{_WORD}{_BEYOND}-]{{1,63}}\.)+(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}|[{_BEYOND}]{{2,24}})"
_EMAIL = rf"[{_WORD}{_BEYOND}.+-]{{1,64}}@{_HOST}"
_IBAN = r"(?i:[A-Z]{2}\d{2}(?:(?:[ -][A-Z0-9]{4}){2,7}(?:[ -][A-Z0-9]{1,3})?|[A-Z0-9]{11,30}))"
_CARD = r"\d{14,16}|\d{4}(?:[ -]\d{4}){3}(?:[ -]\d{3})?|\d{4}[ -]\d{6}[ -]\d{4,5}"
_IP6 = r"[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}"
# Written as people write them: a country code or an area code in brackets, then groups.
_PHONE = (
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,8}){1,4}"
    r"|\(\d{3}\) ?\d{3}[ -]\d{4}|\d{3}-\d{3}-\d{4}|[2-9]\d\d\.[2-9]\d\d\.\d{4}"
)
_NO_SECTION = rf"(?<![{_WORD}.])(?<!ection )(?<!ections )(?<!ection-)(?<!ersion )(?<!ersions )"
_LONE, _ENDS = rf"(?<![{_WORD}.+-])", rf"(?![{_WORD}-])(?![.,]\d)"

# Without one of these nothing is found: a line that has none needs no further look. All patterns in one make RE2 a
# hundred times slower where lines are full of digits, so this is a coarser one that keeps few states.
SIGN = (
    r"@|\d[^\n]{0,3}\d|[23][0-9A-Fa-f]{3}:|PRIVATE KEY|(?i:api_?-?key|secret|token|passw|credential)|AKIA|ASIA"
    r"|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|k_live_|AIza|sk-|hf_|npm_|pypi-|SG\.|eyJ"
)


def _number(core: str, test: Callable[[str], bool], digits: int = 0) -> Kind:
    return Kind("national_id", core, _plain(test, digits), _LONE, _ENDS)


def _said(words: str, core: str, test: Callable[[str], bool], digits: int) -> Kind:
    """A number that counts only after a word that says what it is."""
    return Kind(
        "national_id", rf"(?i:{words})(?i:[ .:#=-]|no|nr|number|nummer|is){{1,12}}(?P<n>{core})", _plain(test, digits)
    )


KINDS: tuple[Kind, ...] = (
    Kind("secret", _PRIVATE_KEY, len, before="", after="", lines=True),
    Kind("secret", _KEYS, len, before="", after=""),
    Kind("secret", _NAMED_KEY, _if(random), before="", after=""),
    Kind("email", _EMAIL, _if(mailbox), _LONE, rf"(?![{_WORD}-])"),
    Kind("iban", _IBAN, _iban),
    Kind("card", _CARD, _plain(check.card), _LONE, _ENDS),
    _number(r"\d{3}-\d{2}-\d{4}", check.ssn),
    _said("ssn|social security", r"\d{3}[ -]?\d{2}[ -]?\d{4}", check.ssn, 9),
    Kind(
        "national_id", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", _plain(check.nino, 9), _LONE
    ),
    _number(r"[1-9]\d{10}|\d{2} \d{3} \d{3} \d{3}", check.steuer_id, 11),
    _number(r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", check.nir, 15),
    _number(r"\d{8}-?[A-HJ-NP-TV-Z]|[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", check.dni, 9),
    _number(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", check.codice_fiscale),
    _number(r"[2-9]\d{3} \d{4} \d{4}|[2-9]\d{3}-\d{4}-\d{4}", check.verhoeff),
    _said("aadhaar|aadhar|uidai", r"[2-9]\d{11}", check.verhoeff, 12),
    _number(r"\d{3}\.\d{3}\.\d{3}-\d{2}", check.cpf),
    _said("cpf", r"\d{11}", check.cpf, 11),
    _number(r"[1-9]\d{16}[0-9X]", check.resident_id),
    Kind("national_id", r"\d{6}[+A-]\d{3}[0-9A-FHJ-NPR-Y]", _if(check.hetu), _LONE, _ENDS),
    _number(r"\d{6}[+-]\d{4}", check.personnummer, 10),
    _number(r"\d{2}\.\d{2}\.\d{2}-\d{3}[.-]\d{2}", check.rijksregister),
    _number(r"756\.\d{4}\.\d{4}\.\d{2}", check.ahv),
    _number(r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d", check.curp, 18),
    _said("pesel", r"\d{11}", check.pesel, 11),
    _said("bsn|burgerservice", r"\d{9}", check.bsn, 9),
    _said("nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", check.nhs, 10),
    _said("sin|social insurance", r"\d{3}[ -]?\d{3}[ -]?\d{3}", check.luhn, 9),
    Kind("ip", r"(?:\d{1,3}\.){3}\d{1,3}", _if(public), before=_NO_SECTION, after=rf"(?![{_WORD}.]*\d)"),
    Kind("ip", _IP6, _if(public), before=rf"(?<![{_WORD}:.])", after=rf"(?![{_WORD}:])"),
    Kind("phone", _PHONE, _if(dialled), _LONE, rf"(?![{_WORD}-])"),
    Kind("phone", r"(?:\+|00)[1-9]\d{7,14}|00[1-9]\d{0,2}(?:[ /-]\d{1,8}){2,5}", _if(in_plan), _LONE, _ENDS),
    Kind("phone", r"0[1-9](?:[ .]\d{2}){4}", len, _LONE, _ENDS),  # as the French write theirs
    Kind("phone", r"0\d{2,4}[ -]\d{3,4}[ -]\d{3,4}|0\d{4}[ -]\d{6}", _if(british), _LONE, _ENDS),
    Kind("phone", _CALL, _if(dialled)),
)
