import subprocess

import pytest

from bench.regression import worktrees
from bench.regression.worktrees import checkout, environment


def git(root, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    for text in ("one", "two"):
        (root / "file").write_text(text)
        git(root, "add", "file")
        git(root, "commit", "-q", "-m", text)
    return root


def test_a_revision_gets_a_clean_tree_of_its_own_that_is_found_again(repository, tmp_path):
    commit, tree = checkout("main~1", tmp_path / "trees", repository)
    assert commit == git(repository, "rev-parse", "main~1")
    assert (tree / "file").read_text() == "one"
    assert (repository / "file").read_text() == "two"
    assert checkout(commit, tmp_path / "trees", repository) == (commit, tree)
    _, other = checkout("main", tmp_path / "trees", repository)
    assert (other / "file").read_text() == "two"


def test_a_tree_that_was_removed_is_made_again(repository, tmp_path):
    _, tree = checkout("main", tmp_path / "trees", repository)
    subprocess.run(["rm", "-rf", str(tree)], check=True)
    assert (checkout("main", tmp_path / "trees", repository)[1] / "file").read_text() == "two"


def test_unknown_revisions_are_refused(repository, tmp_path):
    for name in ("nothing", "--help"):
        with pytest.raises(ValueError, match=f"git knows no revision '{name}'"):
            checkout(name, tmp_path / "trees", repository)


@pytest.mark.parametrize(
    "harm",
    [
        lambda tree: (tree / "file").write_text("three"),
        lambda tree: git(tree, "checkout", "-q", "main~1"),
        lambda tree: (tree / ".git").write_text("gitdir: /of/another/clone\n"),
    ],
)
def test_a_tree_that_is_not_as_it_was_made_is_refused(repository, tmp_path, harm):
    _, tree = checkout("main", tmp_path / "trees", repository)
    harm(tree)
    with pytest.raises(ValueError, match="was changed by hand, or comes from another clone: remove it"):
        checkout("main", tmp_path / "trees", repository)


@pytest.mark.parametrize("uv", ["/bin/uv", None])
def test_an_environment_is_made_once_from_the_trees_own_pins(tmp_path, monkeypatch, uv):
    commands = []

    def run(command, **options):
        commands.append(" ".join(command))
        (tmp_path / "environments" / "tree").mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(worktrees.shutil, "which", lambda name: uv)
    monkeypatch.setattr(worktrees.subprocess, "run", run)
    tree = tmp_path / "tree"
    python = environment(tree, tmp_path / "environments")
    assert python.parent.parent == tmp_path / "environments" / "tree"
    assert len(commands) == 2
    assert f"--constraint {tree}/constraints.txt --editable {tree}" in commands[1]
    assert ("--compile-bytecode" in commands[1]) == (uv is not None)  # pip compiles unasked
    assert environment(tree, tmp_path / "environments") == python
    assert len(commands) == 2


def test_an_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "first\nno such package: torch==99")
    monkeypatch.setattr(worktrees.subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(ValueError, match=r"no environment for tree: .* failed: no such package: torch==99"):
        environment(tmp_path / "tree", tmp_path)
