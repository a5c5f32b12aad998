"""A poll over a dataset: who votes, what they said, what it comes to, and the figures of it.

Enters: records, part by part, and what people said of them. Leaves: for each record its label, how sure it is and who
said what; for each voter its coverage, conflicts and estimated accuracy.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volant.core import Model, Run, Sample, Score
from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.outside import OutsideFile
from volant.core.sample import PERSON, Label
from volant.stages.collect._labeller import Labeller
from volant.stages.collect._rules import Voter, read_functions, read_rules

if TYPE_CHECKING:
    from volant.scorers.voting import Election
    from volant.store.labels import Judgement

BY = "collect.label"
_MODEL = "model"
_SHOWN = 100  # disputed records in the report; all of them keep their votes


def _files(run: Run, setting: str) -> Sequence[OutsideFile]:
    """The files that a setting names; none where it is not set."""
    return run.snapshot(setting).files if setting in run.outside else ()


class Poll:
    """Asks every voter about every record and remembers the answers.

    Raises:
        SettingError: there is no voter, or a model votes without `classes`.
        DataError: a file of rules, functions or labels cannot be read.
    """

    def __init__(self, run: Run, name: str, classes: Sequence[str], labeller: Model | None, ask: str) -> None:
        from volant.store.labels import judgements

        self.run, self.name, self.classes = run, name, list(dict.fromkeys(classes))
        ruled = read_rules(_files(run, "rules"))
        self.voters: dict[str, Voter] = {who: voter for who, (_, voter) in ruled.items()}
        self.voters |= read_functions(_files(run, "functions"))
        self.people: dict[str, list[Judgement]] = {}
        for said in judgements(_files(run, "people"), name):
            self.people.setdefault(said.id, []).append(said)
        self.labeller = None
        if labeller is not None:
            if not self.classes:
                raise SettingError(
                    "a model votes, and has no classes to choose from.", where=run.step, fix="Set `classes`."
                )
            self.labeller = Labeller(run, labeller, self.classes, ask)
            self.voters[_MODEL] = self.labeller.votes
        self.ids: list[str] = []
        self.said: list[dict[str, str]] = []
        self.final: list[str] = []

    def ask(self, samples: Sequence[Sample]) -> None:
        """Collect all votes on these records, and the labels of that name that they came with."""
        votes = {who: voter(samples) for who, voter in self.voters.items()}
        for number, sample in enumerate(samples):
            own = {one.by: one.value for one in sample.labels if one.name == self.name and one.by != BY}
            own |= {who: value for who, given in votes.items() if (value := given[number]) is not None}
            final = ""
            for word in self.people.get(sample.id, ()):
                if word.final:
                    final = word.value or final
                elif word.value:
                    own[f"{PERSON}{word.by}"] = word.value
            self.ids.append(sample.id)
            self.said.append(own)
            self.final.append(final)

    def close(self) -> None:
        """Free the model, if one votes."""
        if self.labeller:
            self.labeller.close()

    def count(self, sure: float) -> Result:
        """What the votes come to.

        Raises:
            SettingError: there was nobody to ask.
            DataError: nobody voted, or for what is no class.
        """
        import numpy as np

        from volant.scorers.voting import ABSTAINS, elect

        run = self.run
        said = Counter(value for votes in self.said for value in votes.values()) + Counter(filter(None, self.final))
        if not said:
            if not (self.voters or self.people or _files(run, "people")):
                fix = "Name `rules`, `functions`, a `labeller`, or labels of `people`."
                raise SettingError("nobody is asked.", where=run.step, fix=fix)
            what = f"nobody voted on any of the {len(self.ids):,} records."
            fix = f"Look at the rules, and whether labels are named {self.name!r}; `volant label` asks people."
            raise DataError(what, where=run.step, fix=fix)
        classes = self.classes or sorted(said)
        for value in said:
            if value not in classes:
                raise DataError(f"a vote is for {value!r}.", where=run.step, fix=did_you_mean(value, classes))
        index = {value: number for number, value in enumerate(classes)}
        voters = sorted({who for votes in self.said for who in votes} | set(self.voters))
        place = {who: number for number, who in enumerate(voters)}
        cast = np.full((len(self.ids), len(voters)), ABSTAINS, np.int64)
        for row, votes in enumerate(self.said):
            for who, value in votes.items():
                cast[row, place[who]] = index[value]
        known = np.array([index[value] if value else ABSTAINS for value in self.final], np.int64)
        unknown = set(self.people) - set(self.ids)
        if unknown:
            run.say(f"labels of {len(unknown):,} records that are not in the data were left aside")
        return Result(self, classes, voters, cast, known, elect(cast, len(classes), known=known), sure)


@dataclass(frozen=True)
class Result:
    """What a poll came to; arrays by record and voter as in `scorers.voting`."""

    poll: Poll
    classes: list[str]
    voters: list[str]
    cast: Any
    known: Any
    election: Election
    sure: float

    def value(self, number: int) -> tuple[str, float, str]:
        """The label of a record, how sure it is (0 to 1), and by whom; an empty label where it is not sure enough."""
        if self.poll.final[number]:
            return self.poll.final[number], 1.0, f"{PERSON}final"
        if not self.poll.said[number]:
            return "", 0.0, ""
        chance = float(self.election.probabilities[number].max())
        winner = self.classes[int(self.election.probabilities[number].argmax())]
        return (winner if chance >= self.sure else ""), chance, BY

    def labelled(self, sample: Sample, number: int) -> Sample:
        """The record with its label, how sure it is, and its votes."""
        name = self.poll.name
        value, chance, by = self.value(number)
        labels = [one for one in sample.labels if one.name != name]
        attrs = dict(sample.attrs)
        if by:
            votes = dict(sorted(self.poll.said[number].items()))
            attrs["votes"] = {**attrs.get("votes", {}), name: votes}
            attrs["sure"] = {**attrs.get("sure", {}), name: round(chance, 4)}
        if value:
            labels.append(Label(name=name, value=value, by=by))
        return sample.model_copy(update={"labels": labels, "attrs": attrs})

    def report(self) -> None:
        """Write `label.json`, score coverage, conflicts and the agreement of people, and say them."""
        import numpy as np

        run, total = self.poll.run, len(self.poll.ids)
        values = [self.value(number) for number in range(total)]
        decided = sum(bool(value) for value, _, _ in values)
        asked = sum(bool(by) for _, _, by in values)
        several = np.array([len(set(votes.values())) > 1 for votes in self.poll.said])
        run.score(Score.exact("label_coverage", decided / total, n=total))
        run.score(Score.exact("label_conflicts", float(several.mean()), n=total, direction="lower"))
        run.say(f"{decided:,} of {total:,} records are labelled; {asked - decided:,} have votes that decide nothing")
        people = self._people()
        told: dict[str, Any] = {
            "name": self.poll.name, "classes": self.classes, "records": total, "voted_on": asked, "labelled": decided,
            "in_conflict": int(several.sum()), "sure": self.sure,
            "labels": dict(sorted(Counter(value for value, _, _ in values if value).items())),
            "shares": {c: round(float(s), 6) for c, s in zip(self.classes, self.election.shares, strict=True)},
            "voters": self._voters(several), "people": people, "disputed": self._disputed(),
        }  # fmt: skip
        (run.out / "label.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _voters(self, several: Any) -> dict[str, Mapping[str, float | int]]:
        from volant.scorers.voting import ABSTAINS

        found: dict[str, Mapping[str, float | int]] = {}
        spoken = self.cast != ABSTAINS
        for column, who in enumerate(self.voters):
            own = spoken[:, column]
            count = int(own.sum())
            with_others = own & (spoken.sum(1) > 1)
            judged = own & (self.known != ABSTAINS)
            right = judged & (self.cast[:, column] == self.known)
            figures: dict[str, float | int] = {
                "votes": count,
                "coverage": round(count / len(own), 6),
                "overlap": round(float(with_others.mean()), 6),
                "conflicts": round(float((own & several).mean()), 6),
            }
            told = f"{who}: {count:,} votes" if count else f"{who}: no vote"
            if judged.any():
                figures |= {"judged": int(judged.sum()), "right": int(right.sum())}
            if with_others.any() or judged.any():
                figures["accuracy"] = round(float(self.election.accuracies[column]), 6)
                told += f", estimated accuracy {figures['accuracy']:.2f}"
            elif count:
                told += ", which nobody else's can be held against"
            found[who] = figures
            self.poll.run.say(told)
        return found

    def _people(self) -> dict[str, Any]:
        """Krippendorff's alpha of the people, where two of them judged the same record."""
        from volant.scorers.alpha import alpha_score

        units = [[value for who, value in votes.items() if who.startswith(PERSON)] for votes in self.poll.said]
        twice = [unit for unit in units if len(unit) > 1]
        if not twice:
            return {"rated": sum(bool(unit) for unit in units), "rated_twice": 0}
        score = alpha_score(twice, seed=self.poll.run.seed, note="Krippendorff's alpha of the people, nominal")
        self.poll.run.score(score)
        told = {"rated": sum(bool(unit) for unit in units), "rated_twice": len(twice), "alpha": score.model_dump()}
        return {**told, "pairs": self._pairs()}

    def _pairs(self) -> list[dict[str, Any]]:
        """The agreement of each two people on what both judged."""
        from itertools import combinations

        from volant.scorers.alpha import alpha

        found = []
        for a, b in combinations(sorted(who for who in self.voters if who.startswith(PERSON)), 2):
            both = [(votes[a], votes[b]) for votes in self.poll.said if a in votes and b in votes]
            if both:
                names = [who.removeprefix(PERSON) for who in (a, b)]
                found.append({"people": names, "records": len(both), "alpha": round(alpha(both), 6)})
                self.poll.run.say(f"{' and '.join(names)}: alpha {found[-1]['alpha']:.2f} over {len(both):,} records")
        return found

    def _disputed(self) -> list[dict[str, Any]]:
        """The records that are least sure, for the adjudication queue; nothing of what they say."""
        chances = [(self.value(n)[1], n) for n, votes in enumerate(self.poll.said) if len(set(votes.values())) > 1]
        open_ones = sorted((chance, n) for chance, n in chances if not self.poll.final[n])
        return [{"id": self.poll.ids[n], "sure": round(chance, 4)} for chance, n in open_ones[:_SHOWN]]
