"""Keeping the store sound: `volant verify`, `gc`, `push`, `pull`.

Enters: names of artifacts, or nothing for all. Leaves: a verdict, free space, or copies elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volant.cli import complete, place, present
from volant.core.artifact import Dataset

Names = Annotated[list[str] | None, typer.Argument(help="Aliases, steps or digests; all by default.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def verify(names: Names = None, json: Json = False) -> None:
    """Hash artifacts again and name every file that is not what it was. Exit code 1 if one is not.

    Example:  volant verify champion
    """
    from volant.project import keeping

    opened = place.project()
    problems = keeping.verify(opened, names or ())
    if json:
        present.as_json(problems)
    else:
        for digest, found in problems.items():
            for problem in found:
                present.say(f"{digest[:12]}: {problem}")
        checked = f"{len(names)} named" if names else f"{len(opened.store.digests())}"
        present.say(f"{checked} artifacts hashed again: {f'{len(problems)} damaged' if problems else 'all are whole'}.")
    if problems:
        raise typer.Exit(1)


def card(
    name: Annotated[str, typer.Argument(help="A dataset: a step or a digest.", autocompletion=complete.things)],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write shards, card, Croissant and manifest into this new folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the card of a dataset: sources, licences, steps, labels, personal data, bias, limits.

    With --out it is written with the shards into a folder that can be published as it is.

    Examples:

        volant card clean

        volant card clean --out published
    """
    from volant.project import publishing
    from volant.store.datacard import long_card

    opened = place.project()
    data = place.artifact(opened, name, Dataset)
    if out is not None:
        files = publishing.publish(opened, data, out)
        present.as_json(files) if json else present.say(f"{len(files)} files are in {out}.")
        return
    facts = publishing.facts_of(opened, data)
    if json:
        present.as_json(publishing.croissant_of(opened, data, facts))
        return
    present.say(long_card(facts))


def rebuild(
    what: Annotated[
        str, typer.Argument(help="An alias, a step, a digest, or a manifest.json.", autocompletion=complete.things)
    ],
    json: Json = False,
) -> None:
    """Make an artifact and all before it anew and compare byte by byte; exit code 1 if one differs.

    A manifest (`volant card --out` writes one) is enough where the store is empty: what comes out the same is kept.

    Examples:

        volant rebuild clean

        volant rebuild published/manifest.json
    """
    from volant.project import rebuilding

    opened = place.project()
    is_file = what.endswith(".json")
    if is_file:
        cards = rebuilding.read_manifest(Path(what))
    else:
        cards = rebuilding.cards_of(opened, opened.artifact(what).digest)
    results = rebuilding.rebuild(opened, cards, keep=is_file)
    if json:
        present.as_json(results)
    else:
        for one in results:
            said = "the same bytes" if one.same else f"differs in {', '.join(one.differ)}"
            present.say(f"{one.digest[:12]} {one.step or one.method}: {said}")
    if not all(one.same for one in results):
        raise typer.Exit(1)


def gc(
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Free what no alias, no promotion, no newest run and no lineage of theirs needs.

    Features of texts, kept so that other thresholds need not read them, go with their dataset, or when newer ones are
    there; what is missing is found again.

    Example:  volant gc --dry-run
    """
    from volant.project import keeping

    freed = keeping.collect_garbage(place.project(), dry=dry)
    if json:
        told = {"digests": freed.digests, "bytes": freed.bytes, "findings_bytes": freed.findings, "dry_run": dry}
        present.as_json(told)
        return
    verb = "Would free" if dry else "Freed"
    found = f", and {present.size(freed.findings)} of what was found of texts" if freed.findings else ""
    present.say(f"{verb} {present.size(freed.bytes)} in {len(freed.digests)} artifacts{found}.")


def push(
    url: Annotated[str, typer.Argument(help="Where to: a folder, or any fsspec URL (s3://bucket/path needs s3fs).")],
    names: Names = None,
    json: Json = False,
) -> None:
    """Copy artifacts with all that they were made from; what is there already is not sent again.

    Examples:

        volant push /mnt/backup/volant

        volant push s3://bucket/models champion
    """
    from volant.project import keeping

    digests = keeping.push(place.project(), url, names or ())
    if json:
        present.as_json(digests)
        return
    present.say(f"{len(digests)} artifacts are at {url}.")


def pull(
    url: Annotated[str, typer.Argument(help="Where from: what `volant push` was given.")],
    digests: Annotated[list[str], typer.Argument(help="Whole digests, as `volant push --json` prints them.")],
    json: Json = False,
) -> None:
    """Bring artifacts from another place into this project's store, hashed on arrival.

    Example:  volant pull s3://bucket/models 3f9c...e1
    """
    got = place.project().store.pull(url, digests)
    if json:
        present.as_json(got)
        return
    present.say(f"{len(got)} artifacts came from {url}.")
