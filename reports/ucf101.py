"""The UCF-101 table and its reproduction card as Markdown, from what `python -m bench ucf101` wrote. Needs no torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.record import write_atomic
from reports.format import escape
from reports.published import CONFIDENCE, FINE_PRINT, published_rows

FILE = "ucf101.json"
HEADS = ("", "IS ↑", "FVD ↓", "generated", "real", "prompts", "pixels", "frames", "confidence", "source", "differs in")
UNKNOWN = ("", "unknown", "uncertain")
REAL = {  # the real videos, where the text of a row's authors names them, or that it does not
    "VidRD w/o fine-tuned VAE": "split not stated",
    "VidRD w/ fine-tuned VAE": "split not stated",
    "VideoPoet": "10,000 of train",
    "CMD": "train and test (inferred)",  # it names StyleGAN-V's protocol
}
GUESSED = ("assumed", "inferred", "not checked")  # words in brackets behind what was not read


def is_run(folder: Path) -> bool:
    """Whether the folder holds such a run."""
    return (folder / FILE).is_file()


def report(folder: Path, out: Path | None) -> list[Path]:
    """Print the table; write table.md and card.md if a folder is given, and name them.

    Raises:
        ValueError: the file cannot be read, or is of another schema.
    """
    found = _load(folder / FILE)
    print(table(found))
    if out is None:
        return []
    write_atomic(out / "table.md", table(found) + "\n")
    write_atomic(out / "card.md", card(found) + "\n")
    return [out / "table.md", out / "card.md", folder / FILE]


def table(found: Mapping[str, Any]) -> str:
    """Our rows beside the published ones; in a table of their own where they may not stand there."""
    notes = _Notes()
    ours = [_ours(row, found, notes) for row in found["rows"]]
    settings = found["card"]["plan"]["settings"]
    theirs = [_theirs(row, settings, found["card"]["plan"], notes) for row in published_rows("ucf101")]
    protocol = found["card"]["plan"]["protocol"]
    if found["apart"]:
        why = "; ".join(found["apart"])
        parts = [
            f"# UCF-101, {protocol}: {found['world']} numbers",
            f"These are **{found['world']}** numbers and stand in no table with published ones: {escape(why)}.",
            _markdown(ours),
            "# Published rows",
            _markdown(theirs),
        ]
    else:
        parts = [f"# UCF-101, {protocol}", _markdown([*ours, *theirs])]
    parts += [
        "IS: Inception Score, FVD: Fréchet video distance, with 95 % intervals where measured here. Protocols differ "
        "from row to row: the last column says in what, and values across differences do not compare.",
        *notes.lines(),
        *(f"{word}: {meaning}." for word, meaning in CONFIDENCE.items()),
        *(f"{line}." for line in FINE_PRINT),
    ]
    return "\n\n".join(parts)


def card(found: Mapping[str, Any]) -> str:
    """Everything another lab needs, for people; the same and more stands in the JSON."""
    told = found["card"]
    plan = told["plan"]
    compiled = ", compiled" if plan.get("compiled") else ""
    parts = [f"# Reproduction card: UCF-101, {plan['protocol']}"]
    if found["apart"]:
        parts.append(f"**{found['world']}** numbers: {escape('; '.join(found['apart']))}.")
    parts += [
        "## Scores",
        *(_scores(row) for row in found["rows"]),
        "## Protocol",
        "Settings marked `unstated` are this project's choices where the source is silent.",
        _pipes(
            ("setting", "value", "from", "why"), [[r["setting"], r["value"], r["by"], r["why"]] for r in told["stated"]]
        ),
        "## Videos",
        f"{plan['videos']} videos (the protocol takes {plan['videos_of_protocol']}), made in fixed batches of "
        f"{plan['batch']} in {plan['precision']}{compiled}, clips of {plan['clip']} frames. The noise of a video is "
        "keyed by a hash of run seed, prompt id and sample index; items are shuffled by such a hash.",
        _pairs("model", plan["model"]),
        _pairs("prompts", plan["prompts"]),
        _pairs("allocation", plan["allocation"]),
        *(_pairs(f"made: {name}", each) for name, each in told["made"].items()),
        "## Real videos",
        _pairs("archive", told["archive"]),
        "## Scoring",
        *(_manifest(name, key, each) for name, keys in told["scores"].items() for key, each in keys.items()),
        "## Made with",
        _pairs("software", told["software"]),
        _pairs("machine", told["machine"]),
        _pairs("seconds of this command's stages", told["seconds"]),
        *([_estimate(told)] if told["estimate"] else []),
        f"Revision `{told['revision']}`. Command:",
        f"```sh\n{' '.join(told['command'])}\n```",
        "## Prompts",
        _pipes(
            ("id", "class", "prompt", "videos"),
            [[p["id"], p["class"], p["prompt"], p["videos"]] for p in told["prompts"]],
        ),
    ]
    return "\n\n".join(parts)


class _Notes:
    """Footnotes: each text once, by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The mark that leads to a note; "" for none."""
        return f" [{self._numbers.setdefault(text, len(self._numbers) + 1)}]" if text else ""

    def lines(self) -> list[str]:
        """The notes in their order."""
        return [f"[{number}] {escape(text)}" for text, number in self._numbers.items()]


def _ours(row: Mapping[str, Any], found: Mapping[str, Any], notes: _Notes) -> list[str]:
    plan = found["card"]["plan"]
    settings = plan["settings"]

    def values(metric: str) -> str:
        scores = {key: score for key, score in row["scores"].items() if key.startswith(f"{metric}:")}
        return "; ".join(f"{_number(score)} ({key}{_floor(row, key)})" for key, score in scores.items()) or "-"

    counts = sorted({score["n"] for score in row["scores"].values()})
    made = found["card"]["made"].get(row["name"], {})
    marks = "".join(notes.mark(f"{key}: {note}") for key, each in row["notes"].items() for note in each)
    marks += notes.mark(f"changed: {'; '.join(row['changes'])}" if row["changes"] else "")
    given = "videos" in made
    return [
        f"{row['name']} (measured here){marks}",
        values("is"),
        values("fvd"),
        ", ".join(map(str, counts)),
        ", ".join(str(n) for n in sorted(set(row["n_real"].values()))) or "-",
        "not known" if given else f"{plan['prompts']['name']} ({plan['prompts']['sha256'][:8]})",
        "as they came" if given else str(settings["size"]),
        str(settings["frames"]),
        found["world"] or "measured",
        f"revision {found['card']['revision'][:8]}",
        "",
    ]


def _theirs(row: Mapping[str, str], settings: Mapping[str, Any], plan: Mapping[str, Any], notes: _Notes) -> list[str]:
    conflict = f"{row['method']}, {row['confidence']}: {row['note']}" if row["note"] else ""
    return [
        f"{row['method']}{notes.mark(conflict)}",
        row["is"] or "-",
        row["fvd"] or "-",
        row["n_generated"] or "not known",
        REAL.get(row["method"], "not known"),
        row["prompts"] or "not known",
        row["resolution"] or "not known",
        row["frames"] or "not known",
        row["confidence"],
        row["source"],
        differences(row, settings, int(plan["videos_of_protocol"]), str(plan["prompts"]["name"])),
    ]


def differences(row: Mapping[str, str], settings: Mapping[str, Any], videos: int, prompts: str) -> str:
    """What of a published row's protocol is another than ours, and what nobody wrote down."""
    found, silent = [], []
    asked = {
        "videos": (row["n_generated"], str(videos)),
        "pixels": (row["resolution"], f"{settings['size']}x{settings['size']}"),
        "frames": (row["frames"], str(settings["frames"])),
    }
    for what, (theirs, ours) in asked.items():
        first = theirs.replace("~", "").partition(" ")[0]
        if theirs in UNKNOWN or any(f"({word})" in theirs for word in GUESSED):
            silent.append(what)
        elif first != ours:
            found.append(what)
    if row["prompts"] in UNKNOWN:
        silent.append("prompts")
    elif not (prompts == "class-name" and row["prompts"].startswith("class name")):
        found.append("prompts")
    return "; ".join([", ".join(found)] * bool(found) + [f"not known: {', '.join(silent)}"] * bool(silent))


def _number(score: Mapping[str, float]) -> str:
    if "low" not in score:
        return f"{score['value']:.2f}"
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def _floor(row: Mapping[str, Any], key: str) -> str:
    if key in row["floors"]:
        return f", floor {row['floors'][key]['value']:.2f} at n = {row['floors'][key]['n']}"
    return f", at most {row['ceilings'][key]['value']:.1f}" if key in row["ceilings"] else ""


def _scores(row: Mapping[str, Any]) -> str:
    lines = [
        [key, _number(score), score["n"], _floor(row, key).removeprefix(", ")] for key, score in row["scores"].items()
    ]
    notes = [f"* {key}: {escape(note)}" for key, each in row["notes"].items() for note in each]
    return "\n".join([f"### {escape(row['name'])}\n", _pipes(("score", "value, 95 %", "n", ""), lines), "", *notes])


def _manifest(name: str, key: str, manifest: Mapping[str, Any]) -> str:
    kept = {field: value for field, value in manifest.items() if field not in ("ucf101", "real", "fake", "row")}
    if isinstance(manifest.get("real"), Mapping):
        kept["real"] = {k: v for k, v in manifest["real"].items() if k != "archive"}
    kept["row"] = manifest.get("row")
    return _pairs(f"{name}, {key}", kept)


def _estimate(told: Mapping[str, Any]) -> str:
    took = sum(told["seconds"].values())
    return f"Estimated beforehand: {told['estimate']['seconds']:.0f} s; this command's stages took {took:.0f} s."


def _pairs(title: str, content: Mapping[str, Any]) -> str:
    rows = [
        [key, value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)]
        for key, value in content.items()
    ]
    return f"### {escape(title)}\n\n{_pipes(('', 'value'), rows)}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return _pipes(HEADS, rows)


def _pipes(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return tabulate([[escape(str(cell)) for cell in row] for row in rows], headers=heads, tablefmt="pipe",
                    disable_numparse=True)  # fmt: skip


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if found.get("schema") != 1:
        raise ValueError(f"{path} has the schema {found.get('schema')}; this version reads 1")
    return found
