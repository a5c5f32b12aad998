"""What makes sure of an address, a telephone number or a key that a pattern found.

In goes the text that was matched; out comes whether it says who or where somebody is. Reserved examples
(`user@example.com`, 192.0.2.1, 127.0.0.1) name nobody.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter

_RESERVED = re.compile(r"@(?:[\w-]+\.)*(?:example|test|invalid|localhost)(?:\.(?:com|org|net|edu))?$", re.IGNORECASE)
_FILE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|css|js|html?|json|xml|pdf|txt|ya?ml)$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"(?i)example|your|xxx|change|placeholder|dummy|secret|password|\.\.\.|<|\$\{|%\(|\{\{")
_YEARS = re.compile(r"(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d")


def mailbox(found: str) -> bool:
    """No reserved example, no picture for a dense screen (`icon@2x.png`), no login of a code host."""
    return not (_RESERVED.search(found) or _FILE.search(found) or found.startswith("git@"))


def public(found: str) -> bool:
    """An address that the whole net reaches."""
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    # 1.2.3.4 and its like are versions and examples far more often than hosts.
    return address.is_global and not address.is_multicast and not found.startswith(("0.", "1.", "2.", "3.", "4."))


def in_plan(found: str) -> bool:
    """A telephone number with its country's code that this country's plan gives out."""
    return _given_out(re.sub(r"^00", "+", found), None)


def british(found: str) -> bool:
    """A telephone number of the United Kingdom, written as one calls it there."""
    return _given_out(found, "GB")


def dialled(found: str) -> bool:
    """Seven to fifteen digits that are no span of years."""
    return 7 <= sum(c.isdigit() for c in found) <= 15 and not _YEARS.fullmatch(found)


def random(found: str) -> bool:
    """Letters and digits without order (at least 3.5 bits a character, by Shannon), and no placeholder."""
    if _PLACEHOLDER.search(found) or not (re.search(r"\d", found) and re.search(r"[A-Za-z]", found)):
        return False
    shares = [n / len(found) for n in Counter(found).values()]
    return -sum(p * math.log2(p) for p in shares) >= 3.5


def _given_out(number: str, country: str | None) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(number, country)))
    except phonenumbers.NumberParseException:
        return False
