import math
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from volant.core.errors import ArtifactError, DataError, GateRefused
from volant.core.outside import Snapshot
from volant.core.score import Score
from volant.store import lineage
from volant.store.database import Database
from volant.store.latency import percentiles
from volant.store.lineage import Edge
from volant.store.records import Records

POSTGRES = os.environ.get("VOLANT_TEST_POSTGRES", "")
"""URL of an empty Postgres database that the tests may wipe; every test here then runs on it too."""


@pytest.fixture(params=["sqlite", "postgres"] if POSTGRES else ["sqlite"])
def records(request, tmp_path):
    if request.param == "postgres":
        database = Database(POSTGRES)
        with database.write() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        database.close()
    with Records.open(POSTGRES if request.param == "postgres" else tmp_path / "records.db") as opened:
        yield opened


@pytest.mark.skipif(not POSTGRES, reason="set VOLANT_TEST_POSTGRES to a database that may be wiped")
def test_postgres_is_really_tested(records):
    assert records.database.where


def begun(records: Records, step: str = "tuned", key: str = "k", parents=None, method: str = "finetune.lora") -> str:
    return records.start_run(step, method, key, "code", {"rank": 8}, 3, parents or {}, {"threads": 2})


def snapshot(records: Records, workload: str = "*") -> Snapshot:
    return Snapshot("records", workload, facts=records.marks(workload))


def asked(records: Records, workload: str = "docs", **fields) -> str:
    values = {"model": "m", "status": 200, "milliseconds": 5.0, **fields}
    return records.add_request(workload, "client", {"messages": []}, {"choices": []}, **values)


# --- runs -------------------------------------------------------------------------------------


def test_run_from_start_to_end(records):
    run = begun(records, parents={"data": ["d1", "d2"], "model": ["m0"]})
    row = records.run(run)
    assert (row.status, row.artifact, row.settings, row.seed) == ("running", "", {"rank": 8}, 3)
    assert row.parents == {"data": ["d1", "d2"], "model": ["m0"]} and row.facts == {"threads": 2}
    assert datetime.fromisoformat(row.started_at).tzinfo is not None
    records.end_run(run, "done", "m1", seconds=2.5, cpu_seconds=2.0, peak_bytes=1 << 40)
    row = records.run(run)
    assert (row.status, row.artifact, row.seconds, row.peak_bytes) == ("done", "m1", 2.5, 1 << 40)


def test_latest_and_fresh(records):
    assert records.latest("tuned") is None and records.fresh("k") is None
    first, second, third = (begun(records) for _ in range(3))
    assert records.fresh("k") is None and records.latest("tuned").id == third
    records.end_run(first, "done", "a")
    records.end_run(second, "done", "b")
    records.end_run(third, "failed", error="no data \ud800")
    assert records.fresh("k").id == second and records.fresh("other") is None
    assert records.latest("tuned").id == third and records.latest("tuned").error == "no data ?"


def test_lists_of_runs(records):
    a, b, c = begun(records, "a"), begun(records, "b", method="collect.files"), begun(records, "a")
    records.end_run(c, "stopped")
    assert [row.id for row in records.runs()] == [c, b, a]
    assert [row.id for row in records.runs(step="a")] == [c, a]
    assert [row.id for row in records.runs(method="collect.files")] == [b]
    assert [row.id for row in records.runs(status="running", limit=1)] == [b]
    assert records.runs(step="a", method="collect.files") == []


def test_unknown_runs(records):
    with pytest.raises(ArtifactError, match="no run x"):
        records.run("x")
    with pytest.raises(ArtifactError, match="no run x"):
        records.end_run("x", "done")


def test_scores_keep_their_order_and_fields(records):
    run = begun(records)
    scores = [
        Score(name="relevance", value=0.5, low=0.4, high=0.6, n=10, of="baseline:ngram", note="chargram"),
        Score.exact("speed", 3.25, unit="ratio", direction="lower"),
    ]
    records.add_scores(run, scores)
    records.add_scores(run, [])
    assert records.scores(run) == scores
    assert records.scores("other") == []
    assert records.scores_of([run, "other"]) == {run: scores, "other": []}


def test_metrics_keep_even_what_is_not_finite(records):
    points = [("loss", 1.5, 0), ("loss", math.nan, 1), ("lr", math.inf, 1)]
    records.add_metrics("r", points)
    records.add_metrics("r", [])
    back = records.metrics("r")
    assert [p[0] for p in back] == ["loss", "loss", "lr"] and math.isnan(back[1][1]) and back[2][1] == math.inf
    assert records.metrics("r", "lr") == [("lr", math.inf, 1)]


def test_ten_thousand_points_in_one_batch(records):
    began = datetime.now(UTC)
    records.add_metrics("r", [("loss", 1.0 / (i + 1), i) for i in range(10_000)])
    assert (datetime.now(UTC) - began).total_seconds() < 5  # the bar of 0.5 s is bench/records.py's
    assert len(records.metrics("r")) == 10_000


# --- lineage ----------------------------------------------------------------------------------


def test_lineage_both_ways(records):
    for made, parents in [("corpus", {}), ("clean", {"data": ["corpus"]}), ("base", {"data": ["clean"]})]:
        records.end_run(begun(records, made, made, parents), "done", made)
    tuned = begun(records, "tuned", "t", {"model": ["base"], "data": ["clean"]})
    records.end_run(tuned, "done", "tuned")
    records.end_run(begun(records, "bad", "b", {"data": ["clean"]}), "failed", "half")
    begun(records, "now", "n", {"data": ["clean"]})
    up = lineage.ancestors(records, "tuned")
    assert {(e.parent, e.child, e.role) for e in up} == {
        ("base", "tuned", "model"),
        ("clean", "tuned", "data"),
        ("clean", "base", "data"),
        ("corpus", "clean", "data"),
    }
    assert Edge(tuned, "base", "tuned", "model") in up
    assert {e.child for e in lineage.descendants(records, "corpus")} == {"clean", "base", "tuned"}
    assert lineage.ancestors(records, "corpus") == [] == lineage.descendants(records, "tuned")


def test_lineage_ends_in_a_circle(records):
    records.end_run(begun(records, parents={"data": ["a"]}), "done", "b")
    records.end_run(begun(records, parents={"data": ["b"]}), "done", "a")
    records.end_run(begun(records, parents={"data": ["a"]}), "done", "a")
    assert len(lineage.ancestors(records, "a")) == 3 == len(lineage.descendants(records, "a"))


# --- aliases ----------------------------------------------------------------------------------


def test_promotion_and_rollback(records):
    assert records.alias("champion") is None and records.aliases() == []
    first = records.promote("champion", "d1", expected=None, key="1", evidence={"report": "r1"})
    second = records.promote("champion", "d2", expected="d1", key="2", evidence={})
    back = records.promote("champion", "d1", expected="d2", key="rollback-1", evidence={"why": "complaints"})
    assert [p.digest for p in records.promotions("champion")] == ["d1", "d2", "d1"]
    assert records.promotions("champion") == [back, second, first]
    assert (first.previous, second.previous, back.previous) == ("", "d1", "d2") and first.evidence == {"report": "r1"}
    assert records.alias("champion").digest == "d1" and [a.name for a in records.aliases()] == ["champion"]


def test_same_key_again_changes_nothing(records):
    first = records.promote("champion", "d1", expected=None, key="1", evidence={})
    records.promote("champion", "d2", expected="d1", key="2", evidence={})
    again = records.promote("champion", "d9", expected="whatever", key="1", evidence={"x": 1})
    assert again == first and again.repeated and not first.repeated
    assert records.alias("champion").digest == "d2"
    other = records.promote("shadow", "d7", expected=None, key="1", evidence={})  # keys are each alias's own
    assert not other.repeated and other.digest == "d7"


def test_lost_race_is_refused(records):
    records.promote("champion", "d1", expected=None, key="1", evidence={})
    with pytest.raises(GateRefused, match="stands for d1 by now, not for nothing"):
        records.promote("champion", "d2", expected=None, key="2", evidence={})
    with pytest.raises(GateRefused, match="shadow stands for nothing by now, not for d1"):
        records.promote("shadow", "d2", expected="d1", key="2", evidence={})
    assert len(records.promotions("champion")) == 1


def test_eight_threads_race_for_ten_promotions(records):
    won, gate = [], threading.Barrier(8)

    def race(who: int) -> None:
        gate.wait()
        for turn in range(10):
            expected = f"d{turn - 1}" if turn else None
            try:
                made = records.promote(
                    "champion", f"d{turn}", expected=expected, key=f"turn-{turn}", evidence={"by": who}
                )
                won.extend([] if made.repeated else [turn])
            except GateRefused:
                pass

    threads = [threading.Thread(target=race, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(10)) and len(records.promotions("champion")) == 10


def test_openings_of_a_test_split(records):
    assert records.open_test("t1", "a") == 1
    assert records.open_test("t1", "b") == 2
    assert records.open_test("t1", "a") == 1
    assert records.open_test("t2", "a") == 1  # a fresh test slice counts anew
    assert records.open_test("t1", "c") == 3


# --- use --------------------------------------------------------------------------------------


def test_requests_and_feedback_up_to_a_mark(records):
    one = asked(records, consent="given", prompt_digest="p")
    two = asked(records, workload="chat", error="timeout", status=504)
    assert records.add_feedback(one, client="c", rating=1, correction="better \ud800") == 1
    assert records.add_feedback(one, client="c", rating=-1, consent="withheld") == 2
    assert records.add_rating("q", "x", "y", "a", "me") == 1
    marked, mine = snapshot(records), snapshot(records, "docs")
    assert marked.facts == {"workload": "*", "requests": 2, "feedback": 2, "ratings": 1}
    assert mine.facts == {"workload": "docs", "requests": 1, "feedback": 2, "ratings": 1}
    asked(records)
    records.add_feedback(two, client="d", rating=1)
    records.add_rating("q", "x", "y", "tie", "me")
    reader = records.reader()
    assert [row["id"] for row in reader.requests(marked)] == [one, two]
    row = next(reader.requests(mine))
    assert row["request"] == {"messages": []} and row["response"] == {"choices": []}
    assert (row["consent"], row["model"], row["prompt_digest"], row["workload"]) == ("given", "m", "p", "docs")
    said = list(reader.feedback(mine))
    assert [(r["id"], r["rating"], r["consent"]) for r in said] == [(1, 1, "given"), (2, -1, "withheld")]
    assert said[0]["correction"] == "better ?" and said[0]["request"] == {"messages": []}
    assert [r["choice"] for r in reader.ratings(marked)] == ["a"]
    assert list(reader.ratings(mine)) == list(reader.ratings(marked))  # a rating is no workload's
    assert list(reader.ratings(Snapshot("ratings", "", facts={**mine.facts, "workload": ""}))) == []
    assert list(reader.feedback(Snapshot("records", "chat", facts={**mine.facts, "workload": "chat"}))) == []


def test_strange_text_and_failed_requests_are_kept(records):
    records.add_request(
        "w", "c\0", {"q": "\ud800 \0"}, None, model="m", status=500, milliseconds=1.0, error="boom \ud800"
    )
    (row,) = records.requests(snapshot(records))
    assert row["request"] == {"q": "\ud800 \0"} and row["response"] is None


def test_reading_goes_page_by_page(records):
    with records.database.write() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 1203) "
            "INSERT INTO ratings (at, prompt, a, b, choice, rater) SELECT '', '', '', '', 'a', '' FROM c"
        )
    assert [row["id"] for row in records.ratings(snapshot(records))] == list(range(1, 1204))


def test_feedback_on_nothing_and_wrong_choices(records):
    with pytest.raises(DataError, match="no request has that id"):
        records.add_feedback("req-x", client="c", rating=1)
    with pytest.raises(DataError, match="a choice is a, b or tie"):
        records.add_rating("q", "x", "y", "c", "me")


def test_the_end_of_keeping(records):
    short, kept = asked(records, retain_days=1), asked(records, retain_days=30, id="req-mine")
    assert kept == "req-mine"
    records.add_feedback(short, client="c", rating=1, correction="private")
    records.add_feedback(kept, client="c", rating=1)
    before = snapshot(records)
    assert records.purge() == 0
    assert records.purge(datetime.now(UTC) + timedelta(days=2)) == 1
    assert [row["id"] for row in records.requests(before)] == [kept]
    assert [row["id"] for row in records.feedback(before)] == [2]
    assert records.purge(datetime.now() + timedelta(days=50)) == 1  # noqa: DTZ005 - a naive time is taken as UTC
    later = asked(records)
    records.add_feedback(later, client="c", rating=1)
    assert records.marks("*") == {
        "workload": "*",
        "requests": 3,
        "feedback": 3,
        "ratings": 0,
    }  # numbers are never reused


def test_latency_history(records):
    for ms in (1.0, 2.0, 3.0, 4.0):
        asked(records, milliseconds=ms, first_token_ms=ms / 2, prompt_tokens=3, completion_tokens=2)
    asked(records, workload="other", status=429, milliseconds=0.1)
    asked(records, workload="docs", status=200, error="cancelled", milliseconds=0.1)
    stats = records.stats("docs")
    assert (stats["requests"], stats["errors"], stats["errors_by_cause"]) == (5, 1, {"cancelled": 1})
    assert stats["milliseconds"] == {"p50": 2.0, "p95": 4.0, "p99": 4.0}
    assert stats["first_token_ms"]["p50"] == 1.0 and (stats["prompt_tokens"], stats["completion_tokens"]) == (12, 8)
    assert sum(hour["requests"] for hour in stats["history"]) == 5
    assert records.stats("*")["errors_by_cause"] == {"429": 1, "cancelled": 1}
    assert records.stats("docs", since="9999")["milliseconds"] == {} == percentiles([])


# --- live state -------------------------------------------------------------------------------


def test_live_state_and_events(records):
    assert records.live("serve") is None
    records.set_live("serve", {"pid": 1})
    records.set_live("serve", {"pid": 2})
    assert records.live("serve") == {"pid": 2}
    records.clear_live("serve")
    assert records.live("serve") is None
    ids = [records.event(kind, {"n": n}) for n, kind in enumerate(("a", "b", "a"))]
    assert [e.id for e in records.events()] == ids[::-1]
    assert [e.body["n"] for e in records.events("a", limit=1)] == [2]


def test_reader_lists_runs_with_scores(records):
    run = begun(records)
    records.add_scores(run, [Score.exact("relevance", 0.5)])
    begun(records, method="collect.files")
    rows = list(records.reader().runs("finetune.lora"))
    assert [row["id"] for row in rows] == [run] and rows[0]["scores"][0].value == 0.5
    assert len(list(records.reader().runs())) == 2
