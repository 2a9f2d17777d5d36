"""The code of then, from commits of this repository and, if trusted, from the store's patches."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, tiny_values
from journey import SPACE, named, run, suspected, unchecked

from centernet.errors import UserError
from experiments import provenance, restore
from experiments.tracking.record import Recorded


def git(root: Path, *words: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *own, "-C", str(root), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of this shape, with one commit."""
    root = tmp_path / "small"
    for name in ("centernet/a.py", "centernet/b.py", "experiments/c.py", "mlflow.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    (root / ".gitignore").write_text("ignored.py\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_the_patch_holds_changed_removed_and_new_sources_and_nothing_else(
    small: Path, tmp_path: Path
) -> None:
    assert provenance.patch.__wrapped__(small) == ""
    (small / "centernet/a.py").write_bytes(b"other = 'ends without a newline, \xc3\xbc\r'")
    (small / "centernet/b.py").unlink()
    (small / "experiments/new.py").write_text("new = 1\n")
    (small / "centernet/empty.py").touch()
    for name in ("mlflow.yaml", ".env", "centernet/ignored.py", "centernet/key.pem"):
        (small / name).write_text("password = 'secret'\n")
    text = provenance.patch.__wrapped__(small)
    assert "secret" not in text
    clean = tmp_path / "clean"
    git(small, "worktree", "add", "--quiet", "--detach", str(clean), "HEAD")
    assert provenance.git(clean, "apply", "-", text=text) is not None
    (small / "centernet/ignored.py").unlink()
    assert provenance.sources(clean) == provenance.sources(small)


def test_outside_of_git_the_sources_are_still_known(tmp_path: Path) -> None:
    (tmp_path / "centernet").mkdir()
    (tmp_path / "centernet/a.py").touch()
    found = provenance.code.__wrapped__(tmp_path)
    assert found["commit"] is None and not found["dirty"]
    assert list(found["sources"]) == ["centernet/a.py"]


def test_packages_of_a_store_are_names_and_versions_only() -> None:
    assert restore.pins({"a-b": "1.0+cpu", "c": "2!1.0.post1"}) == "a-b==1.0+cpu\nc==2!1.0.post1\n"
    for name, version in {"-r x": "1", "a": "1 --index-url x", "a @ file": "1", "": "1"}.items():
        with pytest.raises(UserError, match="has a package called"):
            restore.pins({name: version})


def forget() -> None:
    """What this process knows of the repository; else it holds for the length of a process."""
    provenance.code.cache_clear()
    provenance.patch.cache_clear()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository of these packages, with one commit, that this process takes for its own."""
    root = tmp_path / "clone"
    for package in ("centernet", "experiments"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, root / package, ignore=ignore)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "then")
    monkeypatch.setattr(provenance, "ROOT", root)
    forget()
    yield root
    forget()


def change_the_loss(clone: Path) -> None:
    file = clone / "centernet" / "losses.py"
    text = file.read_text()
    file.write_text(text.replace("p.pow(alpha)", "p.pow(alpha + 1)"))
    assert file.read_text() != text


def test_an_older_commit_is_restored_in_a_newer_clone_from_a_store_that_was_moved(
    clone: Path, data: Path, tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "mlflow.yaml").write_text((REPOSITORY / "mlflow.yaml").read_text())
    unchecked(before)
    base = tiny_values(data) | {"train.epochs": 2}
    (before / "base.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in base.items()))
    (before / "space.yaml").write_text(SPACE)
    run(before, "search", "--space", "space.yaml", "--study", "old", "--trials", 1)
    (before / "runs" / "studies.db").unlink()  # Optuna's: not needed
    before.rename(after)
    change_the_loss(clone)
    git(clone, "commit", "--quiet", "-am", "now")
    forget()
    out = run(after, "reproduce", 0)
    assert named(out) == ["source centernet/losses.py: changed (restored)"]
    assert "IDENTICAL: 2 epochs" in out
    assert git(clone, "worktree", "list").count("\n") == 0 and not before.exists()
    assert not list((after / "runs").glob(".reproduce-*"))
    out = run(after, "reproduce", 0, "--as-is", status=1)
    assert suspected(out) == ["source centernet/losses.py: changed"]


def remembered(root: Path, **changes: Any) -> Recorded:
    """What a run would have recorded of a repository as it is."""
    code = provenance.code.__wrapped__(root)
    return Recorded(
        "id",
        "1",
        "s",
        "trial 0",
        "COMPLETE",
        "",
        "tiny",
        {},
        [],
        code,
        **({"patch": None} | changes),
    )


def test_uncommitted_code_of_a_store_is_restored_only_if_it_is_trusted(
    small: Path, tmp_path: Path
) -> None:
    (small / "centernet/a.py").write_text("changed = 1\n")
    (small / "centernet/new.py").write_text("new = 1\n")
    forget()
    then = remembered(small, patch=provenance.patch(small))
    git(small, "checkout", "--quiet", "centernet/a.py")
    (small / "centernet/new.py").unlink()
    assert "is code from the store; --trust-patch" in restore.obstacle(then, small, trust=False)
    assert not restore.obstacle(then, small, trust=True)
    with restore.code(then, small, tmp_path) as place:
        assert provenance.sources(place) == then.identity["sources"]
    assert not place.exists() and git(small, "worktree", "list").count("\n") == 0
    harmless = str(then.patch).replace("centernet/", "experiments/")
    assert not restore.obstacle(replace(then, patch=harmless), small, trust=False)
    other = replace(then, patch=str(then.patch).replace("new = 1", "new = 2"))
    assert "were not kept" in restore.obstacle(other, small, trust=True)  # not what was recorded
    with (
        pytest.raises(UserError, match="not what was recorded: source centernet/new"),
        restore.code(other, small, tmp_path),
    ):
        pass
    forget()


def test_a_project_below_a_larger_repository_is_restored_too(small: Path, tmp_path: Path) -> None:
    inner = small / "detector"
    (inner / "centernet").mkdir(parents=True)
    (inner / "centernet" / "a.py").write_text("a = 1\n")
    git(small, "add", ".")
    git(small, "commit", "--quiet", "-m", "below")
    (inner / "centernet" / "a.py").write_text("a = 2\n")
    forget()
    then = remembered(inner, patch=provenance.patch(inner))
    git(small, "checkout", "--quiet", ".")
    with restore.code(then, inner, tmp_path) as place:
        assert (place / "centernet" / "a.py").read_text() == "a = 2\n"
    forget()


@pytest.mark.parametrize(
    ("commit", "message"),
    [
        ("0" * 40, "its commit 000000000000 is not in this clone"),
        ("--output=x", "outside of git"),
        (None, "outside of git"),
    ],
)
def test_a_commit_that_is_not_here_is_said_with_what_is_possible(
    small: Path, commit: str | None, message: str
) -> None:
    then = remembered(small)
    other = replace(then, identity=then.identity | {"commit": commit})
    text = restore.obstacle(other, small, trust=True)
    assert message in text and "--as-is trains with the code that is here" in text
