import pytest

from volant.core.errors import PathError
from volant.core.paths import Resolver


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "data" / "a.txt").write_text("a")
    (root / "data" / "b.txt").write_text("b")
    (tmp_path / "secret.txt").write_text("s")
    return root


@pytest.mark.parametrize("name", ["../secret.txt", "data/../../secret.txt", "/etc/passwd", "~root/x", "a\0b"])
def test_what_leaves_the_project_is_refused(project, name):
    with pytest.raises(PathError) as caught:
        Resolver.for_project(project).resolve(name)
    assert caught.value.fix


def test_a_link_is_judged_by_where_it_leads(project):
    (project / "data" / "link.txt").symlink_to(project.parent / "secret.txt")
    with pytest.raises(PathError):
        Resolver.for_project(project).resolve("data/link.txt")
    with pytest.raises(PathError):
        Resolver.for_project(project).glob("data/*.txt")


def test_the_user_may_open_a_folder(project, monkeypatch):
    monkeypatch.setenv("VOLANT_ALLOW", str(project.parent))
    assert Resolver.for_project(project).resolve("../secret.txt").name == "secret.txt"


def test_globs_are_sorted_and_leave_folders_out(project):
    (project / "data" / "sub").mkdir()
    found = Resolver.for_project(project).glob("data/**")
    assert [path.name for path in found] == ["a.txt", "b.txt"]
    assert Resolver.for_project(project).glob("nothing/*") == []


def test_links_that_lead_out_are_sorted_out(project):
    (project / "data" / "link.txt").symlink_to(project.parent / "secret.txt")
    (project / "data" / "sub").symlink_to(project.parent)
    (project / "data" / "whole").symlink_to("/")
    (project / "data" / "self").symlink_to(project / "data")
    (project / "data" / "circle.txt").symlink_to("circle.txt")
    (project / "data" / "nowhere.txt").symlink_to("gone.txt")
    (project / "data" / ".hidden").mkdir()
    (project / "data" / ".hidden" / "c.txt").write_text("c")
    resolver = Resolver.for_project(project)
    found, leaving = resolver.sorted_out("data/**")
    assert [path.name for path in found] == ["a.txt", "b.txt"]
    assert leaving == ["data/circle.txt", "data/link.txt", "data/nowhere.txt", "data/sub", "data/whole"]
    assert resolver.sorted_out("*/*.txt") == (found, ["data/circle.txt", "data/link.txt", "data/nowhere.txt"])
    with pytest.raises(PathError, match="circle"):
        resolver.resolve("data/circle.txt")
    assert [p.name for p in resolver.glob("data/.hidden/**/*.txt")] == ["c.txt"]


def test_two_stars_stand_for_any_number_of_folders(project):
    (project / "data" / "x" / "y").mkdir(parents=True)
    for place in ("data/x/c.txt", "data/x/y/d.txt", "data/x/y/e.md"):
        (project / place).write_text("t")
    resolver = Resolver.for_project(project)
    assert [p.name for p in resolver.glob("data/**/*.txt")] == ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert [p.name for p in resolver.glob("**/y/*")] == ["d.txt", "e.md"]
    assert [p.name for p in resolver.glob("data/**/x/**/*.txt")] == ["c.txt", "d.txt"]
    assert [p.name for p in resolver.glob(str(project / "d*" / "**" / "[de].*"))] == ["d.txt", "e.md"]
