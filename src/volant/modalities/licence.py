"""What a licence says: whether its name is known, and whether it allows the planned use.

In goes an SPDX expression (`MIT`, `CC-BY-4.0 OR Apache-2.0`, `LicenseRef-own`); out comes its
canonical form, or an error with a mend. The list of names is that of `packaging`. Volant reads
the few families whose terms forbid a use outright; it gives no legal advice.
"""

from __future__ import annotations

import re

from volant.core.errors import LicenceError, did_you_mean

# Licences that forbid commercial use without NC in their name.
_NO_COMMERCE = {"busl-1.1", "polyform-noncommercial-1.0.0", "aladdin", "nlpl", "cpol-1.02"}
_NAME = re.compile(r"[A-Za-z0-9.+-]+")


def canonical(expression: str, *, where: str = "") -> str:
    """The canonical SPDX form of a licence expression.

    Raises:
        LicenceError: empty, malformed, or a name that SPDX does not list.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not expression.strip():
        raise LicenceError(
            "no licence is given.", where=where, fix="Set `licence` to an SPDX name, as in licence: CC-BY-4.0."
        )
    for name in _NAME.findall(expression):
        if name.upper() not in ("AND", "OR", "WITH") and not name.lower().startswith("licenseref-"):
            _check_name(name, where)
    try:
        return str(canonicalize_license_expression(expression))
    except InvalidLicenseExpression as error:
        raise LicenceError(
            f"{expression!r} is no SPDX expression: {error}.", where=where, fix="Join names with AND, OR and WITH."
        ) from error


def _check_name(name: str, where: str) -> None:
    from packaging.licenses._spdx import EXCEPTIONS, LICENSES

    plain = name.lower().removesuffix("+")
    if plain not in LICENSES and plain not in EXCEPTIONS:
        known = [entry["id"] for entry in LICENSES.values()]
        near = did_you_mean(name, known)
        near = near if near.startswith("Did") else "See spdx.org/licenses."
        raise LicenceError(
            f"SPDX lists no licence {name!r}.", where=where, fix=f"{near} For one of your own write LicenseRef-{name}."
        )


def forbids(expression: str, use: str) -> str:
    """Why the licence forbids the use (`commercial`, `research`, `personal`), or nothing.

    `OR` lets you choose the mildest part; `AND` binds you to all of them.

    >>> forbids("CC-BY-NC-4.0", "commercial")
    'CC-BY-NC-4.0 forbids commercial use'
    >>> forbids("CC-BY-NC-4.0 OR MIT", "commercial")
    ''
    """
    choices = re.split(r"\s+OR\s+", expression.replace("(", " ").replace(")", " ").strip())
    if "(" in expression:  # mixed nesting: be strict, every name binds
        choices = [" AND ".join(choices)]
    reasons = []
    for choice in choices:
        reason = next(filter(None, (_name_forbids(name, use) for name in re.split(r"\s+AND\s+", choice))), "")
        if not reason:
            return ""
        reasons.append(reason)
    return "; ".join(reasons)


def _name_forbids(name: str, use: str) -> str:
    plain = name.strip().lower()
    if re.match(r"cc-by-(nc-)?nd-", plain):
        return f"{name} forbids derived works, which a trained model may be"
    commercial = plain.startswith("cc-by-nc-") or plain in _NO_COMMERCE
    return f"{name} forbids commercial use" if commercial and use == "commercial" else ""


def require(expression: str, use: str, *, where: str = "") -> str:
    """The canonical expression, when it allows the use.

    Raises:
        LicenceError: unknown name, or a licence that forbids the use.
    """
    known = canonical(expression, where=where)
    reason = forbids(known, use)
    if reason:
        fix = "Use other data, get a permission and name it (LicenseRef-...), or set goal.use: research."
        raise LicenceError(f"{reason}, and goal.use is {use}.", where=where, fix=fix)
    return known
