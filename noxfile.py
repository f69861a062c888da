"""`nox -s bench` is the main job, `nox -s tests` the tests; `nox` alone is what to run before a push.

Every session passes the words after `--` on, as in `nox -s bench -- --suite smoke`. On a machine that brings its own
torch, `nox --no-venv -s bench` uses the Python that runs nox and installs nothing.
"""

import os
import shutil
import subprocess
import sys

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

THREADS = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}  # a process per core, so a thread per process
# One process more than cores, since tests wait for other processes, servers and clocks; a file's tests share fixtures.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PARALLEL = ("-n", str(min(8, CORES + 1)), "--dist", "loadscope")
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}  # no AVX-512, and bfloat16 is emulated


def install(session: nox.Session, *groups: str) -> None:
    """Put the project and some dependency groups into the session's environment, at the pinned versions."""
    if session.virtualenv.is_sandboxed:
        options = [word for group in groups for word in ("--group", group)]
        compiled = {"UV_COMPILE_BYTECODE": "1"}  # once, not in each of the many processes that a sweep starts
        session.install("--constraint", "constraints.txt", "--editable", ".", *options, env=compiled)


def command(session: nox.Session, *words: str, env: dict[str, str] | None = None) -> None:
    """Run a module of the project, with more variables of its environment, and end with its exit code.

    nox would turn every failure into 1, and kill an interrupted command before it has saved what it did.
    """
    python = shutil.which("python", path=os.pathsep.join(session.bin_paths or [])) or sys.executable
    session.log(f"python -m {' '.join(words)}")
    with subprocess.Popen([python, "-m", *words], env=os.environ | (env or {})) as process:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:  # the terminal has told the command, too
                continue
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


@nox.session
def tests(session: nox.Session) -> None:
    """The CPU tests, shapes checked: nox -s tests -- tests/metrics -k jitter; -- -m slow; a debugger needs -n 0."""
    install(session, "test")
    session.run("pytest", *PARALLEL, *session.posargs, env=THREADS)


@nox.session
def avx2(session: nox.Session) -> None:
    """The smoke suite and the tests marked precision, computed as by a CPU without AVX-512 and native bfloat16."""
    install(session, "test")
    command(session, "bench", "run", "--suite", "smoke", "--out", "runs/smoke-avx2", env=AVX2)
    selection = ["-m", "precision and not (gpu or slow or network)"]
    session.run("pytest", *PARALLEL, *selection, *session.posargs, env=THREADS | AVX2)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: style and format; nox -s lint -- --fix fixes what it can."""
    if session.virtualenv.is_sandboxed:
        session.install("--constraint", "constraints.txt", "--group", "lint")
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy over the five packages."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The main job: make videos, score and time them, print the table (default: --suite pocket, some five minutes)."""
    install(session)
    command(session, "bench", "run", *(session.posargs or ["--suite", "pocket"]))


@nox.session
def gate(session: nox.Session) -> None:
    """Is the checkout as fast, as small and as good as a revision? nox -s gate -- --base origin/main"""
    install(session)
    shared = [] if session.virtualenv.is_sandboxed else ["--environments", "shared"]
    command(session, "bench", "gate", *shared, *session.posargs)


@nox.session
def report(session: nox.Session) -> None:
    """Remake the page, tables and charts of a finished run: nox -s report -- runs/pocket --out runs/pocket/report"""
    install(session)
    command(session, "reports", *(session.posargs or ["runs/pocket", "--out", "runs/pocket/report"]))


@nox.session
def train(session: nox.Session) -> None:
    """Remake the pocket weights and their classifiers, hours on two cores: nox -s train -- --preset pocket"""
    install(session)
    command(session, "vidrd", "train", *session.posargs)
    if session.posargs in ([], ["--preset", "pocket"]):  # a trial or a data set must not replace the classifiers
        command(session, "bench.videos.train_classifiers")


@nox.session
def ucf101(session: nox.Session) -> None:
    """The UCF-101 table: nox -s ucf101 -- --model FOLDER --ucf101 PATH --weights DIR (default: with tiny stand-ins)"""
    install(session)
    command(session, "bench", "ucf101", *(session.posargs or ["--standin"]))


@nox.session
def gpu(session: nox.Session) -> None:
    """Everything that needs a CUDA device, the most valuable first: nox -s gpu -- --minutes 14; -- --dry on a CPU"""
    install(session, "test")
    command(session, "bench.studies.gpu_session", *session.posargs)
