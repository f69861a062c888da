"""Revisions as a gate measures them: each in a git worktree and an environment of its own."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from bench.hardware.machine import ROOT, git


class Side(NamedTuple):
    """One revision, ready to be measured."""

    name: str  # "base" or "head"
    revision: str
    tree: Path
    python: Path


def commit_of(revision: str, root: Path = ROOT) -> str:
    """The commit that a revision names.

    Raises:
        ValueError: git does not know it.
    """
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except (subprocess.CalledProcessError, ValueError):
        raise ValueError(
            f"git knows no revision {revision!r}: name a commit, branch or tag that is here (in CI: fetch-depth 0)"
        ) from None


def checkout(revision: str, folder: Path, root: Path = ROOT) -> tuple[str, Path]:
    """The commit that a revision names, and a clean worktree of it, made under `folder` unless it is there.

    Raises:
        ValueError: git does not know the revision or cannot check it out, or the worktree was changed.
    """
    commit = commit_of(revision, root)
    tree = folder / commit[:12]
    if (tree / ".git").exists():
        if not _is_clean(tree, commit):
            raise ValueError(
                f"{tree} was changed by hand, or comes from another clone: remove it, the gate makes it again"
            )
        return commit, tree
    folder.mkdir(parents=True, exist_ok=True)
    try:
        git(root, "worktree", "prune")
        git(root, "worktree", "add", "--detach", "--force", str(tree), commit)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"git could not check {revision} out: {error.stderr.strip()}") from None
    return commit, tree


def _is_clean(tree: Path, commit: str) -> bool:
    """Whether a worktree is as git made it: of this clone and commit, without changes."""
    try:
        return git(tree, "rev-parse", "HEAD") == commit and not git(tree, "status", "--porcelain")
    except subprocess.CalledProcessError:  # a cache brought the tree, and not what the clone knows of it
        return False


def environment(tree: Path, folder: Path) -> Path:
    """The Python of an environment with the tree's own pinned dependencies, made under `folder` unless it is there.

    Raises:
        ValueError: it cannot be made; the message has the last line of the tool.
    """
    place = folder / tree.name
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    marker = place / "installed"
    if marker.exists():
        return python
    # Compiled, as nox and pip do it for the head's: a process that compiles what it imports is slower for life.
    uv = shutil.which("uv")
    packages = ["--constraint", str(tree / "constraints.txt"), "--editable", str(tree)]
    if uv:
        commands = [
            [uv, "venv", "--clear", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--compile-bytecode", "--python", str(python), *packages],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", "--clear", str(place)],
            [str(python), "-m", "pip", "install", "--quiet", *packages],
        ]
    for command in commands:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            last = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:] or ["no message"]
            raise ValueError(f"no environment for {tree.name}: {' '.join(command[:3])} ... failed: {last[0]}")
    marker.touch()
    return python
