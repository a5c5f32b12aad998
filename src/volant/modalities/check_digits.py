"""Check digits of card, account and identity numbers: what tells such a number from any other run of digits.

In goes a number without blanks or punctuation; out comes whether its check digits hold and its parts can occur. Each
function names the published rule that it follows. A number that passes is formed like one; whether it was ever given
to somebody nobody can tell from it.
"""

from __future__ import annotations

from collections import Counter

# Lengths of an IBAN by country (SWIFT's registry of IBAN formats).
_IBAN = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
_TIMES = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_TURNS = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)
_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B; a run of one digit alone is no number."""
    doubled = [int(d) if i % 2 == 0 else int(d) * 2 - 9 * (int(d) > 4) for i, d in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0


def card(digits: str) -> bool:
    """A payment card: an issuer's prefix with one of its lengths, and `luhn`."""
    two, three, four, n = int(digits[:2]), int(digits[:3]), int(digits[:4]), len(digits)
    issued = (
        (digits[0] == "4" and n in (16, 19))  # Visa; 13 digits are given out no more, and article numbers have them
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and n == 16)  # Mastercard
        or (two in (34, 37) and n == 15)  # American Express
        or ((four == 6011 or two == 65 or 644 <= three <= 649) and n in (16, 19))  # Discover
        or (3528 <= four <= 3589 and n in (16, 19))  # JCB
        or ((two in (36, 38, 39) or 300 <= three <= 305) and n == 14)  # Diners
        or (two == 62 and 16 <= n <= 19)  # UnionPay
        or ((two == 50 or 56 <= two <= 58 or two == 67) and 16 <= n <= 19)  # Maestro
    )
    return issued and luhn(digits)


def iban(code: str) -> bool:
    """ISO 13616: the country's length, and 1 modulo 97 with letters as 10 to 35."""
    return iban_length(code) == len(code) and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def iban_length(code: str) -> int:
    """How long an IBAN of that country is; 0 where the country has none."""
    return _IBAN.get(code[:2], 0)


def verhoeff(digits: str) -> bool:
    """Verhoeff's check (1969), as Aadhaar numbers carry it."""
    check = 0
    for i, digit in enumerate(reversed(digits)):
        check = int(_TIMES[check][int(_TURNS[i % 8][int(digit)])])
    return check == 0


def steuer_id(digits: str) -> bool:
    """German tax id: ISO 7064 MOD 11,10, and one digit twice or three times among the first ten."""
    counts = sorted(Counter(digits[:10]).values())
    if digits[0] == "0" or counts[-1] not in (2, 3) or counts[-2] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def nir(code: str) -> bool:
    """French INSEE number: sex, month and key (97 less the number modulo 97; Corsica's 2A as 19, 2B as 18)."""
    month = int(code[3:5])
    if code[0] not in "12" or not (1 <= month <= 12 or 20 <= month <= 42 or 50 <= month <= 99):
        return False
    number = code[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(code[13:])


def dni(code: str) -> bool:
    """Spanish DNI or NIE: the letter is the number modulo 23; X, Y, Z stand for 0, 1, 2."""
    number = code[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == code[-1]


def codice_fiscale(code: str) -> bool:
    """Italian tax code: odd places by the table of 1976, even ones as they are, modulo 26."""
    values = [int(c) if c.isdigit() else ord(c) - 65 for c in code[:15]]
    total = sum(_ODD[v] if i % 2 == 0 else v for i, v in enumerate(values))
    day = int(code[9:11])
    return chr(65 + total % 26) == code[15] and (1 <= day <= 31 or 41 <= day <= 71)


def curp(code: str) -> bool:
    """Mexican CURP: a date, and ten less the weighted sum modulo 10 over `0-9A-NÑO-Z`."""
    alphabet = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum(alphabet.index(c) * (18 - i) for i, c in enumerate(code[:17]))
    return _date(code[6:8], code[8:10]) and (10 - total % 10) % 10 == int(code[17])


def cpf(digits: str) -> bool:
    """Brazilian CPF: two check digits modulo 11."""
    for n in (9, 10):
        total = sum(int(d) * (n + 1 - i) for i, d in enumerate(digits[:n]))
        if total * 10 % 11 % 10 != int(digits[n]):
            return False
    return len(set(digits)) > 1


def resident_id(code: str) -> bool:
    """Chinese resident number (GB 11643): a date, and ISO 7064 MOD 11-2."""
    total = sum(int(d) * pow(2, 17 - i, 11) for i, d in enumerate(code[:17]))
    dated = code[6:8] in ("18", "19", "20") and _date(code[10:12], code[12:14])
    return dated and "10X98765432"[total % 11] == code[17]


def hetu(code: str) -> bool:
    """Finnish identity code: a date, and a letter by the number modulo 31."""
    return _date(code[2:4], code[:2]) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(code[:6] + code[7:10]) % 31] == code[10]


def personnummer(digits: str) -> bool:
    """Swedish identity number of ten digits: a date (days + 60 for coordination numbers), and `luhn`."""
    day = int(digits[4:6])
    return _date(digits[2:4], f"{day - 60 if day > 60 else day:02}") and luhn(digits)


def rijksregister(digits: str) -> bool:
    """Belgian national number: 97 less the number modulo 97, a 2 put before it from 2000 on."""
    number, key = digits[:9], int(digits[9:])
    return _date(digits[2:4], digits[4:6]) and key in (97 - int(number) % 97, 97 - int("2" + number) % 97)


def ahv(digits: str) -> bool:
    """Swiss insurance number: an EAN-13 that begins with 756."""
    total = sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(digits))
    return digits.startswith("756") and total % 10 == 0


def pesel(digits: str) -> bool:
    """Polish number: a date (century in the month), and weights 1, 3, 7, 9 modulo 10."""
    total = sum(int(d) * w for d, w in zip(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), strict=True))
    return _date(f"{int(digits[2:4]) % 20:02}", digits[4:6]) and total % 10 == 0


def bsn(digits: str) -> bool:
    """Dutch number: weights 9 to 2 and -1, modulo 11."""
    total = sum(int(d) * w for d, w in zip(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True))
    return len(set(digits)) > 1 and total % 11 == 0


def nhs(digits: str) -> bool:
    """Number of the British health service: weights 10 to 2, and what is missing to a multiple of 11."""
    total = sum(int(d) * w for d, w in zip(digits, range(10, 1, -1), strict=False))
    return len(set(digits)) > 1 and (-total) % 11 == int(digits[9])


def ssn(digits: str) -> bool:
    """United States number: no area 000, 666 or 900 up, no group 00, no serial 0000; it has no check digit."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def nino(code: str) -> bool:
    """British number: letters that are given out; it has no check digit."""
    return code[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _date(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31
