"""What a licence says: whether its name is known, and whether it allows the planned use.

In goes an SPDX expression (`MIT`, `CC-BY-4.0 OR Apache-2.0`, `LicenseRef-own`); out comes its
canonical form, or an error with a mend. The list of names is that of `packaging`. Volant reads
the few families whose terms forbid a use outright; it gives no legal advice.
"""

from __future__ import annotations

import re

from volant.core.errors import LicenceError, did_you_mean

# Licences that forbid commercial use without saying so in their name.
_NO_COMMERCE = {"busl-1.1", "aladdin", "nlpl", "cpol-1.02", "ncgl-uk-2.0"}
_SAYS_SO = re.compile(r"(^|-)nc(-|$)|non-?commercial|research-?only|academic-?only")
# Names that data comes under on hubs, where SPDX lists another form of them or none.
_ALSO_KNOWN = {
    "odc-by": "ODC-By-1.0", "odbl": "ODbL-1.0", "pddl": "PDDL-1.0", "cc0": "CC0-1.0", "c-uda": "C-UDA-1.0",
    "apache": "Apache-2.0", "cdla-permissive": "CDLA-Permissive-2.0", "cdla-sharing": "CDLA-Sharing-1.0",
    "openrail": "LicenseRef-OpenRAIL", "openrail-m": "LicenseRef-OpenRAIL-M", "openrail++": "LicenseRef-OpenRAIL-pp",
    "bigscience-openrail-m": "LicenseRef-BigScience-OpenRAIL-M",
    "bigscience-bloom-rail-1.0": "LicenseRef-BigScience-BLOOM-RAIL-1.0",
    "bigcode-openrail-m": "LicenseRef-BigCode-OpenRAIL-M", "creativeml-openrail-m": "LicenseRef-CreativeML-OpenRAIL-M",
    "llama2": "LicenseRef-Llama-2", "llama3": "LicenseRef-Llama-3", "llama3.1": "LicenseRef-Llama-3.1",
    "llama3.2": "LicenseRef-Llama-3.2", "llama3.3": "LicenseRef-Llama-3.3", "llama4": "LicenseRef-Llama-4",
    "gemma": "LicenseRef-Gemma",
}  # fmt: skip
# Terms that forbid any training of another model, as their texts say (section 1.b of both).
_NO_TRAINING = {
    "licenseref-llama-2": "improving other language models with its output",
    "licenseref-llama-3": "improving other language models with its output",
}
_NAME = re.compile(r"[A-Za-z0-9.+-]+")


def canonical(expression: str, *, where: str = "") -> str:
    """The canonical SPDX form of a licence expression; hubs' own names (`odc-by`, `llama3`) are known, too.

    Raises:
        LicenceError: empty, malformed, or a name that SPDX does not list.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not expression.strip():
        raise LicenceError(
            "no licence is given.", where=where, fix="Set `licence` to an SPDX name, as in licence: CC-BY-4.0."
        )
    expression = _ALSO_KNOWN.get(expression.strip().lower(), expression)
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
    if plain in _NO_TRAINING:
        return f"{name} forbids {_NO_TRAINING[plain]}"
    commercial = plain in _NO_COMMERCE or bool(_SAYS_SO.search(plain))
    return f"{name} forbids commercial use" if commercial and use == "commercial" else ""


def card_licence(card: str) -> str:
    """The licence that a dataset's or model's card states in its YAML head, as written; empty for none.

    >>> card_licence("---\\nlicense: odc-by\\n---\\n# A card")
    'odc-by'
    """
    head = re.match(r"---\n(.*?)\n---", card, flags=re.DOTALL)
    stated = re.search(r"^license:[ \t]*(?:\n[ \t]*-[ \t]*)?['\"]?([^'\"\n]+)", head[1], re.MULTILINE) if head else None
    return stated[1].strip() if stated else ""


def hindrance(expression: str, use: str) -> str:
    """Why data or a model of a stated licence cannot be used: none stated, not known, or forbidden; empty for none."""
    if not expression.strip():
        return "it states no licence"
    try:
        return forbids(canonical(expression), use)
    except LicenceError as error:
        return error.what.rstrip(".")


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
