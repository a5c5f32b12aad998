"""Records drawn for people: by seed, with what must be there, the least sure first, out of several row groups."""

from volant.core.artifact import Dataset
from volant.core.sample import Label, Sample, Source
from volant.store.dataset import writer
from volant.store.pool import pool, values


def made(folder, count=2500):
    with writer(folder) as out:
        for n in range(count):
            attrs = {"sure": {"tone": 0.9 if n % 7 else 0.5 + n / 1e5}} if n % 2 else {}
            attrs |= {"suspect": {"tone": {"given": "a", "suggested": "b", "margin": 0.4}}} if n == 2321 else {}
            labels = [Label(name=("tone", "other")[n % 2], value=f"v{n % 3}", by="x")]
            source = Source(uri="t", licence="MIT")
            out.write(Sample(id=f"r{n}", shape="text", source=source, content=f"text {n}", attrs=attrs, labels=labels))
    return Dataset(folder)


def test_some_of_many(tmp_path):
    data = made(tmp_path / "data")
    one = [sample.id for sample in pool(data, "tone", 50, keep={"r7", "r2499", "nobody"})]
    assert len(one) == len(set(one)) == 50 and {"r7", "r2499", "r2321"} <= set(one)
    assert one == [sample.id for sample in pool(data, "tone", 50, keep={"r7", "r2499"})]
    other = [sample.id for sample in pool(data, "tone", 50, seed=1)]
    assert len(set(one) & set(other)) < 10 and max(int(id[1:]) for id in other) > 2000
    assert len(pool(data, "tone", 1, keep={"r1", "r2"})) == 3  # none of these is left out
    assert len(pool(data, "tone", 9999)) == 2500
    voted = pool(data, "tone", 1300, by_votes=True)
    sure = [sample.attrs.get("sure", {}).get("tone", 0.0) for sample in voted]
    assert sure == sorted(sure) and sure[-2] < 0.9 and all(s.content == f"text {s.id[1:]}" for s in voted)
    assert values(data, "tone") == ["v0", "v1", "v2"] and values(data, "none") == []
