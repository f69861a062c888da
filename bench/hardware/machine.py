"""What a number was measured on and with: machine, software, revision, and hashes of source and weights."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bench.results.records import CHANGES, Value

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("vidrd", "baselines", "metrics", "bench")
# As Linux names them, and the variables by which PyTorch and oneDNN leave some of them unused.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
                "asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2")  # fmt: skip
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "nvidia-ml-py")


class Revision(NamedTuple):
    """The commit of a checkout, and whether its files differ from it."""

    commit: str
    changed: bool

    def __str__(self) -> str:
        return f"{self.commit}{CHANGES}" if self.changed else self.commit


def machine() -> dict[str, Value]:
    """Processor, cores this process may use, memory, instruction sets, threads asked for, GPUs and driver."""
    gpu, driver = _gpus()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "instructions": _instructions(),
        "threads_variable": os.environ.get("OMP_NUM_THREADS", ""),
        "gpu": gpu,
        "driver": driver,
    }


def software() -> dict[str, str]:
    """Python's version and those of the packages that can change a number."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def revision(root: Path = ROOT) -> Revision:
    """The commit of the checkout at `root`; "unknown" where there is no git or no commit."""
    try:
        commit = git(root, "rev-parse", "HEAD")
        changed = bool(git(root, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return Revision("unknown", changed=False)
    return Revision(commit, changed)


def source_hash(root: Path = ROOT, paths: Sequence[str] = SOURCES) -> str:
    """SHA-256 of these Python files and of all in these folders, committed or not: other source, other numbers."""
    return hash_files(root, (file for path in paths for file in _python_files(root / path)))


def _python_files(path: Path) -> list[Path]:
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def files_hash(paths: Sequence[str], root: Path = ROOT) -> str:
    """SHA-256 of these files and of all files in these folders.

    Raises:
        ValueError: one is not there, is a .safetensors file shorter or longer than its own header says, or is another
            than the card.json of its folder describes.
    """
    files: list[Path] = []
    for name in paths:
        path = root / name
        if not path.exists():
            raise ValueError(
                f"{name} is missing: this suite measures with these weights; restore them from the repository: they "
                "come with a clone of it, not with a wheel"
            )
        files += sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    for path in files:
        if path.suffix == ".safetensors":
            _check_length(path, path.relative_to(root).as_posix())
    for card in (path for path in files if path.name == "card.json"):
        _check_card(card, root)
    return hash_files(root, files)


def _check_card(card: Path, root: Path) -> None:
    """Compare the files of a folder with the hashes in its card (vidrd and bench.videos.train_classifiers write it)."""
    content = json.loads(card.read_text(encoding="utf-8"))
    judges = {name: about["sha256"] for name, about in content.get("files", {}).items()}
    for name, expected in {**content.get("sha256", {}), **judges}.items():
        path = card.parent / name
        if not path.is_file() or _sha256(path) != expected:
            fault = (
                "missing" if not path.is_file() else f"not the file that {card.name} describes (cut short or altered)"
            )
            raise ValueError(f"{path.relative_to(root).as_posix()} is {fault}: restore it from the repository")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_length(path: Path, name: str) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length < size else b""
    try:
        tensors = json.loads(header)
        expected = 8 + length + max(item["data_offsets"][1] for key, item in tensors.items() if key != "__metadata__")
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{name} is no whole safetensors file: restore it from the repository") from None
    if size != expected:
        raise ValueError(f"{name} has {size} bytes where its header says {expected}: restore it from the repository")


def hash_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 of the names below `root` and the contents of these files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.relative_to(root).as_posix()}\0{_sha256(path)}\n".encode())
    return total.hexdigest()


def git(root: Path, *arguments: str) -> str:
    """What a command of git says in the checkout at `root`; raises `subprocess.CalledProcessError` where it fails."""
    process = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return process.stdout.strip()


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _instructions() -> str:
    """The instruction sets that decide a CPU's speed, and the variables that switch some of them off."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = next((set(line.split()) for line in lines if line.lower().startswith(("flags", "features"))), set[str]())
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name)]
    return " ".join([*(name for name in INSTRUCTIONS if name in flags), *limits])


def _gpus() -> tuple[str, str]:
    try:
        import pynvml  # noqa: PLC0415  (a machine without NVML must still run)
    except ImportError:
        return "none (nvidia-ml-py is not installed)", ""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"none (NVML: {error})", ""
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return ", ".join(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles), str(
            pynvml.nvmlSystemGetDriverVersion()
        )
    except pynvml.NVMLError as error:
        return f"unreadable (NVML: {error})", ""
    finally:
        pynvml.nvmlShutdown()
