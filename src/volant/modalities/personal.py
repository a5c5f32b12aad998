"""Personal data in text: found by pattern, replaced by names of what stood there.

In goes a text; out come the text with e-mail addresses, public IP addresses and telephone numbers
replaced by `<email>`, `<ip>` and `<phone>`, and how many of each. Reserved examples
(`user@example.com`, 192.0.2.1, 127.0.0.1) stay: they name nobody. This is the minimum that patterns
can do; names of people need a model and are not found here.
"""

from __future__ import annotations

import ipaddress
import re

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])")
_IP = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
# Written as people write them: a country code or an area code in brackets, then groups.
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,8}){1,4}"
    r"|\(\d{3}\) ?\d{3}[ -]\d{4}|\d{3}-\d{3}-\d{4})(?![\w-])"
)
_RESERVED = re.compile(r"@(?:[\w-]+\.)*(?:example|test|invalid|localhost)(?:\.(?:com|org|net|edu))?$", re.IGNORECASE)


def masked(text: str) -> tuple[str, dict[str, int]]:
    """The text with personal data replaced, and how many of each kind were.

    >>> masked("Write to ann@firm.com, not to x@example.com.")
    ('Write to <email>, not to x@example.com.', {'email': 1})
    """
    counts: dict[str, int] = {}

    def replace(kind: str) -> str:
        counts[kind] = counts.get(kind, 0) + 1
        return f"<{kind}>"

    if "@" in text:
        text = _EMAIL.sub(lambda m: m[0] if _RESERVED.search(m[0]) else replace("email"), text)
    if text.count(".") > 2:
        text = _IP.sub(lambda m: replace("ip") if _public(m[0]) else m[0], text)
    return _PHONE.sub(lambda m: replace("phone"), text), counts


def _public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    # 1.2.3.4 and its like are versions and examples far more often than hosts.
    return parsed.is_global and not address.startswith(("0.", "1.", "2.", "3.", "4."))
