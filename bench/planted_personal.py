"""Personal data to plant, made from a seed, and numbers that only look like it: what `bench/screen.py` works on.

Check digits are computed here by the published rules, not by the code that is measured. Nobody's number is meant:
digits are drawn, and one that is somebody's is so by chance.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from hashlib import md5, sha1, sha256

Maker = Callable[[random.Random], str]


def digits(dice: random.Random, n: int) -> str:
    return "".join(dice.choice("0123456789") for _ in range(n))


def grouped(number: str, sizes: tuple[int, ...], gap: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    return gap.join([*parts, number[at:]]).strip(gap)


def card(dice: random.Random) -> str:
    prefix, size = dice.choice([("4", 16), ("51", 16), ("2230", 16), ("37", 15), ("6011", 16), ("3530", 16)])
    body = prefix + digits(dice, size - len(prefix) - 1)
    doubled = "".join(str(int(d) * 2) if (size - i) % 2 == 0 else d for i, d in enumerate(body))
    number = body + str(-sum(map(int, doubled)) % 10)
    if size == 15:
        return dice.choice([number, grouped(number, (4, 6), " ")])
    return dice.choice([number, grouped(number, (4, 4, 4), " "), grouped(number, (4, 4, 4), "-")])


def iban(dice: random.Random) -> str:
    country, account = dice.choice(
        [
            *(
                (country, digits(dice, n))
                for country, n in (("DE", 18), ("ES", 20), ("PL", 24), ("FR", 23), ("NO", 11))
            ),
            ("NL", "ABNA" + digits(dice, 10)),
            ("GB", "WEST" + digits(dice, 14)),
        ]
    )
    spelled = "".join(str(int(c, 36)) for c in f"{account}{country}00")
    code = f"{country}{98 - int(spelled) % 97:02}{account}"
    return dice.choice([code, grouped(code, (4,) * (len(code) // 4), " ")])


def email(dice: random.Random) -> str:
    name = dice.choice(["anna", "j.meier", "maria_lopez", "k-ono", "info", "tom+news", "x123", "Ole.Berg", "zoë"])
    host = dice.choice(["firma.de", "mail.uni-x.edu", "web.co.uk", "post.io", "my-shop.com.br", "acme.museum"])
    return f"{name}{dice.choice(['', digits(dice, 2)])}@{host}"


def ip4(dice: random.Random) -> str:
    first = dice.choice([5, 8, 23, 46, 62, 77, 81, 93, 104, 151, 185, 195, 203, 213])
    rest = [dice.randrange(1, 255) if first != 203 else dice.randrange(114, 255) for _ in range(3)]
    return ".".join(map(str, [first, *rest])) + dice.choice(["", "", ":8080", "/24"])


def ip6(dice: random.Random) -> str:
    parts = [f"{dice.randrange(1, 1 << 16):x}" for _ in range(6)]
    prefix = dice.choice(["2a00:1450", "2600:1f18", "2a03:2880", "2406:da00"])
    full = f"{prefix}:{':'.join(parts)}"
    return dice.choice([full, f"{prefix}:{parts[0]}::{parts[1]}", f"{prefix}::{parts[0]}"])


def phones(national: bool) -> Maker:
    """Numbers that the countries' plans give out; national ones as people there write them, without a word before."""

    def phone(dice: random.Random) -> str:
        import phonenumbers as p

        regions = ["US", "GB", "FR"] if national else ["US", "GB", "FR", "DE", "ES", "IT", "NL", "BR", "IN", "JP", "PL"]
        while True:
            kind = dice.choice([p.PhoneNumberType.MOBILE, p.PhoneNumberType.FIXED_LINE])
            shown = p.example_number_for_type(dice.choice(regions), kind)
            places = len(str(shown.national_number))
            shown.national_number = int(str(shown.national_number)[: places - 4] + digits(dice, 4))
            if p.is_valid_number(shown) and len(str(shown.national_number)) == places:
                form = p.PhoneNumberFormat
                style = form.NATIONAL if national else dice.choice([form.INTERNATIONAL, form.E164])
                return str(p.format_number(shown, style))

    return phone


def ssn(dice: random.Random) -> str:
    area = dice.choice([dice.randrange(1, 666), dice.randrange(667, 900)])
    return f"{area:03}-{dice.randrange(1, 100):02}-{dice.randrange(1, 10000):04}"


def dni(dice: random.Random) -> str:
    number = digits(dice, 8)
    return number + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def nir(dice: random.Random) -> str:
    number = f"{dice.choice('12')}{digits(dice, 2)}{dice.randrange(1, 13):02}{dice.randrange(10, 90)}{digits(dice, 6)}"
    return grouped(f"{number}{97 - int(number) % 97:02}", (1, 2, 2, 2, 3, 3), dice.choice(["", " "]))


def cpf(dice: random.Random) -> str:
    number = digits(dice, 9)
    for _ in range(2):
        total = sum(int(d) * w for d, w in zip(reversed(number), range(2, 12), strict=False))
        number += str((11 - total % 11) % 11 % 10)
    return f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"


def personnummer(dice: random.Random) -> str:
    born = f"{dice.randrange(40, 100):02}{dice.randrange(1, 13):02}{dice.randrange(1, 29):02}"
    serial = digits(dice, 3)
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(born + serial))
    return f"{born}-{serial}{-total % 10}"


def steuer_id(dice: random.Random) -> str:
    while True:
        ten = list("123456789")
        dice.shuffle(ten)
        ten.insert(dice.randrange(1, 10), dice.choice(ten))
        left = 10
        for d in ten:
            left = ((int(d) + left) % 10 or 10) * 2 % 11
        return grouped("".join([*ten, str((11 - left) % 10)]), (2, 3, 3), dice.choice(["", " "]))


def key(dice: random.Random) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    drawn = "".join(dice.choice(letters) for _ in range(40))
    return dice.choice([f"ghp_{drawn[:36]}", f"AKIA{drawn[:16].upper()}", f"sk-{drawn}", f'api_key = "{drawn[:24]}x7"'])


PLANTED: dict[str, tuple[str, Maker]] = {
    "e-mail": ("email", email),
    "IPv4": ("ip", ip4),
    "IPv6": ("ip", ip6),
    "phone, with country": ("phone", phones(False)),
    "phone, as in US, GB, FR": ("phone", phones(True)),
    "card": ("card", card),
    "IBAN": ("iban", iban),
    "national id: US": ("national_id", ssn),
    "national id: ES": ("national_id", dni),
    "national id: FR": ("national_id", nir),
    "national id: BR": ("national_id", cpf),
    "national id: SE": ("national_id", personnummer),
    "national id: DE": ("national_id", steuer_id),
    "key": ("secret", key),
}


def _ean(dice: random.Random) -> str:
    body = dice.choice(["400", "978", "501", "761"]) + digits(dice, 9)
    return body + str(-sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(body)) % 10)


LIKE: dict[str, Maker] = {
    "version": lambda d: f"{d.randrange(0, 5)}.{d.randrange(20)}.{d.randrange(30)}.{d.randrange(10)}",
    "version of six parts": lambda d: ".".join(str(d.randrange(99)) for _ in range(6)),
    "date and time": lambda d: (
        f"20{d.randrange(10, 30)}-{d.randrange(1, 13):02}-{d.randrange(1, 29):02}T{d.randrange(10, 24)}:15:30"
    ),
    "date with dots": lambda d: f"{d.randrange(1, 29):02}.{d.randrange(1, 13):02}.{d.randrange(1950, 2030)}",
    "UUID": lambda d: str(uuid.UUID(int=d.getrandbits(128), version=4)),
    "MD5": lambda d: md5(digits(d, 9).encode(), usedforsecurity=False).hexdigest(),
    "SHA-1": lambda d: sha1(digits(d, 9).encode(), usedforsecurity=False).hexdigest(),
    "SHA-256": lambda d: sha256(digits(d, 9).encode()).hexdigest(),
    "milliseconds since 1970": lambda d: str(d.randrange(1_000_000_000_000, 1_900_000_000_000)),
    "16 digits": lambda d: digits(d, 16),
    "18 digits": lambda d: digits(d, 18),
    "EAN and ISBN": _ean,
    "decimal": lambda d: f"{d.uniform(0, 1000):.13f}",
    "coordinates": lambda d: f"{d.uniform(0, 90):.6f}, {d.uniform(0, 180):.6f}",
    "thousands": lambda d: f"{d.randrange(10**9, 10**12):,}",
    "MAC address": lambda d: ":".join(f"{d.randrange(256):02x}" for _ in range(6)),
    "private address": lambda d: d.choice(["10.0.", "192.168."]) + f"{d.randrange(256)}.{d.randrange(256)}",
    "colour and hexadecimal": lambda d: f"#{d.getrandbits(24):06x} 0x{d.getrandbits(64):016x}",
    "serial with letters": lambda d: f"SN-{digits(d, 4)}-{digits(d, 6)}-B",
    "file and handle": lambda d: f"@user{d.randrange(99)} icon{d.randrange(9)}@2x.png",
}
