"""Get a file over http(s), and go on where a download was cut off."""

import json
import shutil
import sys
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

TRIES = 4  # connections, each of which goes on where the last one broke
SECONDS = 60  # without a byte, until a connection counts as broken
PIECE = 1 << 20
SPARE = 1 << 26  # bytes of disk that are left free
AGENT = "vidrd-bench"


def download(url: str, target: Path, *, size: int | None = None, checked: bool = False) -> Path:
    """Fetch into ".NAME.part" next to the target and return it, whole; the caller verifies and renames it.

    A part from before is continued where the server says that the file is still the same (by ETag or date), or where
    `checked`: the caller knows a checksum, so a wrong joint would show.

    Args:
        url: http or https; redirections are followed.
        target: where the file is to be.
        size: bytes that it must have; None = as the server says.
        checked: a checksum is known.

    Raises:
        ValueError: another scheme, no connection, a web page or another size instead of the file, no room, or a
            connection that kept breaking; what has come stays for the next time.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"only http and https are fetched: {url}")
    part, about = target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.part.json")
    reason = ""
    for _ in range(TRIES):
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _continue(url, part, about, size, checked):
                about.unlink(missing_ok=True)
                return part
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            raise ValueError(f"the server says {error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            if not part.is_file() or part.stat().st_size <= before:
                break
    there = part.stat().st_size if part.is_file() else 0
    kept = f"; {there} bytes have come, the same command goes on from there" if there else ""
    raise ValueError(f"{reason}{kept}")


def _continue(url: str, part: Path, about: Path, size: int | None, checked: bool) -> bool:
    """One connection; whether the file is whole now."""
    begun = part.stat().st_size if part.is_file() else 0
    validator = _validator(about, url)
    if begun and not (validator or checked):
        begun = 0
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
        if validator:
            headers["If-Range"] = validator
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS)
    except urllib.error.HTTPError as error:
        whole = error.code == 416 and error.headers.get("Content-Range", "") == f"bytes */{begun}"
        if whole and size in (None, begun):
            return True
        if error.code != 416:
            raise
        part.unlink()  # it is longer than the file is now
        return False
    with answer:
        begun, total = _lengths(answer, begun)
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise ValueError("got a web page instead of the file: the link asks for a person, or is dead")
        if size is not None and total is not None and total != size:
            raise ValueError(f"the server has {total} bytes, {size} were published")
        _check_room(part.parent, (total or begun) - begun)
        about.write_text(json.dumps({"url": url, "validator": _of(answer.headers)}))
        with part.open("r+b" if begun else "wb") as file:
            file.seek(begun)
            file.truncate()
            _copy(answer, file, begun, total, part.name)
    return total is None or part.stat().st_size == total


def _lengths(answer: HTTPResponse, asked: int) -> tuple[int, int | None]:
    """At which byte the answer begins, and how many the whole file has."""
    length = answer.headers.get("Content-Length")
    if answer.status != 206:
        return 0, None if length is None else int(length)
    span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    begin = span.partition("-")[0]
    if not begin.isdigit() or int(begin) != asked:
        raise ValueError(f"the server answered with bytes {span or 'unknown'}, those from {asked} on were asked for")
    return asked, int(total) if total.isdigit() else None


def _copy(answer: HTTPResponse, file: BinaryIO, begun: int, total: int | None, name: str) -> None:
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name.strip(".").removesuffix(".part"), total=total, completed=begun)
        while piece := answer.read(PIECE):
            file.write(piece)
            bar.update(task, advance=len(piece))


def _check_room(folder: Path, ahead: int) -> None:
    free = shutil.disk_usage(folder).free
    if ahead + SPARE > free:
        raise ValueError(f"{ahead / 1e9:.1f} GB are to come and {folder} has {free / 1e9:.1f} GB free: make room")


def _of(headers: Message) -> str:
    """What tells this version of the file from others: a strong ETag, else its date."""
    tag = headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""


def _validator(about: Path, url: str) -> str:
    """What the part's server said of it, if it came from this address."""
    try:
        content = json.loads(about.read_text())
        return str(content["validator"]) if content["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
