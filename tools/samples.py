"""Writes twenty docstrings into README.md: `python tools/samples.py PROJECT`, or `--check` to compare.

Enters: the project that `volant demo` made. Leaves: `docs/samples.json`, and the table in README.md. It shows the first
twenty functions of the test split in the order in which they were read, with the champion's greedy answers, whatever
they are.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT, PAGE = ROOT / "docs" / "samples.json", ROOT / "README.md"
BEGIN, END = "<!-- samples: tools/samples.py -->", "<!-- end of samples -->"
MANY = 20


def asked(folder: str) -> list[dict[str, str]]:
    """What the champion says of the first functions of the test split."""
    from volant.core.artifact import Model
    from volant.engines import open_model
    from volant.project import Project
    from volant.scorers.measure import answers
    from volant.store.dataset import rows

    project = Project(folder, threads=1, device="cpu")
    row = project.records.alias("champion")
    if row is None:
        sys.exit(f"{folder} has no champion: run `volant demo {folder}` first")
    champion = project.store.get(row.digest)
    assert isinstance(champion, Model)
    chosen = list(islice(rows(project.artifact("pairs"), "test"), MANY))
    said = answers(open_model(champion), chosen)
    return [
        {"function": str(s.attrs["function"]), "place": s.source.uri, "model": o.text, "author": s.target or ""}
        for s, o in zip(chosen, said, strict=True)
    ]


def table(samples: list[dict[str, str]]) -> str:
    """The samples as Markdown."""
    rows = [f"| `{s['function']}` | {_cell(s['model'])} | {_cell(s['author'])} |" for s in samples]
    return "\n".join(["| function | the model | its author |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def page(samples: list[dict[str, str]]) -> str:
    """README.md with the table in its place."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{table(samples)}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Write, or compare."""
    if "--check" in sys.argv:
        same = page(json.loads(KEPT.read_text(encoding="utf-8"))) == PAGE.read_text(encoding="utf-8")
        print("" if same else "README.md does not show docs/samples.json: run tools/samples.py")
        return 0 if same else 1
    samples = asked(sys.argv[1])
    KEPT.write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(samples), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
