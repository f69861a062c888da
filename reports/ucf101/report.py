"""The UCF-101 table, reproduction card and page, from what `python -m bench ucf101` wrote. Needs no torch."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.results.records import short_revision, write_atomic
from reports.chart_style import COLOURS
from reports.format import printable
from reports.html_templates import render
from reports.ucf101.document import Block, Code, Grid, Heading, Items, Paragraph, as_markdown
from reports.ucf101.published import CONFIDENCE, FINE_PRINT, published_rows
from reports.ucf101.videos import scenes
from reports.video_players import Place, RowLabel, players

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
    """Whether the folder has a UCF-101 run."""
    return (folder / FILE).is_file()


def report(
    folder: Path, out: Path | None, command: Sequence[str] = (), *, place: Place | None = None, videos: int = 60
) -> list[Path]:
    """Print the table; if `out` is given, write report.html, table.md and card.md there, and return the files.

    Args:
        command: the command that makes these files, as words.
        place: writes videos next to the page; None keeps them in the page, as many as fit.
        videos: how many the page shows at most.

    Raises:
        ValueError: the file cannot be read, or has another schema.
    """
    results = _load(folder / FILE)
    text = as_markdown(table(results))
    print(text)
    if out is None:
        return []
    out.mkdir(exist_ok=True)
    write_atomic(out / "report.html", page(results, folder, command, place=place, videos=videos))
    write_atomic(out / "table.md", text + "\n")
    write_atomic(out / "card.md", as_markdown(card(results)) + "\n")
    return [out / "report.html", out / "table.md", out / "card.md", folder / FILE]


def page(
    results: Mapping[str, Any], folder: Path, command: Sequence[str], *, place: Place | None = None, videos: int = 60
) -> str:
    """Table, card and videos as one HTML page that opens from disk, offline, with or without JavaScript."""
    content, plan = results["card"], results["card"]["plan"]
    names = [row["name"] for row in results["rows"]]
    prompts = {prompt["id"]: prompt["prompt"] for prompt in content["prompts"]}
    labels = {
        f"row-{position}": RowLabel(
            printable(row["name"]),
            COLOURS[position % len(COLOURS)],
            " · ".join(f"{key} {_number(score)}" for key, score in row["scores"].items()),
            row["name"],
        )
        for position, row in enumerate(results["rows"])
    }
    shown = scenes(folder, names, prompts, videos)
    played = players(shown, labels, lambda scene: printable(str(scene.group)), place, "; --videos N shows more")
    cards = [
        ("Make this page again", shlex.join(command)),
        ("Compute the numbers again", shlex.join(content["command"])),
        ("Machine", _lines(content["machine"])),
        ("Software", _lines({"revision": content["revision"], **content["software"]})),
    ]
    return render(
        "ucf101.html",
        ("base", "players"),
        title=f"UCF-101: {plan['protocol']}",
        badges=[results["world"] or "measured", plan["protocol"], f"revision {short_revision(content['revision'])}"],
        answer=[_answer(row) for row in results["rows"]],
        table=table(results)[1:],
        card=card(results)[1:],
        scenes=played.scenes,
        video_note=played.note,
        seam_kinds=played.kinds,
        seams_known=played.seams_known,
        cards=[{"title": title, "text": text, "wide": title.endswith("again")} for title, text in cards if text],
    )


def _answer(row: Mapping[str, Any]) -> tuple[str, str]:
    scores = "; ".join(
        f"{key} {_number(score)} at n = {score['n']}{_floor(row, key)}" for key, score in row["scores"].items()
    )
    return printable(row["name"]), f": {scores}."


def table(results: Mapping[str, Any]) -> list[Block]:
    """Our rows and the published ones, in one table if they are comparable, else in two."""
    notes = _Notes()
    ours = [_ours(row, results, notes) for row in results["rows"]]
    settings = results["card"]["plan"]["settings"]
    known = published_rows()
    theirs = [_theirs(row, settings, results["card"]["plan"], notes) for row in known]
    mine, others = ["measured"] * len(ours), [row["confidence"] for row in known]
    protocol = results["card"]["plan"]["protocol"]
    parts: list[Block]
    if results["apart"]:
        why = "; ".join(results["apart"])
        parts = [
            Heading(1, f"UCF-101, {protocol}: {results['world']} numbers"),
            Paragraph(results["world"], f" numbers, which are not comparable with published ones: {why}."),
            Grid(HEADS, ours, mine),
            Heading(1, "Published rows"),
            Grid(HEADS, theirs, others),
        ]
    else:
        parts = [Heading(1, f"UCF-101, {protocol}"), Grid(HEADS, [*ours, *theirs], [*mine, *others])]
    caption = (
        "IS: Inception Score. FVD: Fréchet video distance. Scores measured here have 95 % intervals. Protocols differ "
        "from row to row; the last column says in what. Do not compare values across such differences."
    )
    lines = [*notes.lines(), *(f"{word}: {meaning}." for word, meaning in CONFIDENCE.items())]
    lines += [f"{line}." for line in FINE_PRINT]
    return [*parts, Paragraph("", caption), *(Paragraph("", line) for line in lines)]


def card(results: Mapping[str, Any]) -> list[Block]:
    """The reproduction card for readers: everything another lab needs; the JSON has the same and more."""
    content = results["card"]
    plan = content["plan"]
    compiled = ", compiled" if plan.get("compiled") else ""
    videos = (
        f"{plan['videos']} videos (the protocol takes {plan['videos_of_protocol']}), made in fixed batches of "
        f"{plan['batch']} in {plan['precision']}{compiled}, clips of {plan['clip']} frames. The noise of a video is "
        "keyed by a hash of run seed, prompt id and sample index; items are shuffled by such a hash."
    )
    return [
        Heading(1, f"Reproduction card: UCF-101, {plan['protocol']}"),
        *([Paragraph(results["world"], f" numbers: {'; '.join(results['apart'])}.")] if results["apart"] else []),
        Heading(2, "Scores"),
        *(block for row in results["rows"] for block in _scores(row)),
        Heading(2, "Protocol"),
        Paragraph("", "Settings marked unstated are this project's choices where the source is silent."),
        Grid(
            ("setting", "value", "from", "why"),
            [[str(r[name]) for name in ("setting", "value", "by", "why")] for r in content["stated"]],
        ),
        Heading(2, "Videos"),
        Paragraph("", videos),
        *_pairs("model", plan["model"]),
        *_pairs("prompts", plan["prompts"]),
        *_pairs("allocation", plan["allocation"]),
        *(block for name, each in content["made"].items() for block in _pairs(f"made: {name}", each)),
        Heading(2, "Real videos"),
        *_pairs("archive", content["archive"]),
        Heading(2, "Scoring"),
        *(
            block
            for name, keys in content["scores"].items()
            for key, each in keys.items()
            for block in _manifest(name, key, each)
        ),
        Heading(2, "Made with"),
        *_pairs("software", content["software"]),
        *_pairs("machine", content["machine"]),
        *_pairs("seconds of this command's stages", content["seconds"]),
        *([Paragraph("", _estimate(content))] if content["estimate"] else []),
        Paragraph("", f"Revision {content['revision']}. Command:"),
        Code(shlex.join(content["command"])),
        Heading(2, "Prompts"),
        Grid(
            ("id", "class", "prompt", "videos"),
            [[str(p[name]) for name in ("id", "class", "prompt", "videos")] for p in content["prompts"]],
        ),
    ]


class _Notes:
    """Footnotes: every text appears once and has a number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The mark that refers to a note; "" for an empty text."""
        return f" [{self._numbers.setdefault(text, len(self._numbers) + 1)}]" if text else ""

    def lines(self) -> list[str]:
        """The notes in their order."""
        return [f"[{number}] {text}" for text, number in self._numbers.items()]


def _ours(row: Mapping[str, Any], results: Mapping[str, Any], notes: _Notes) -> list[str]:
    plan = results["card"]["plan"]
    settings = plan["settings"]

    def values(metric: str) -> str:
        scores = {key: score for key, score in row["scores"].items() if key.startswith(f"{metric}:")}
        return "; ".join(f"{_number(score)} ({key}{_floor(row, key)})" for key, score in scores.items()) or "-"

    counts = sorted({score["n"] for score in row["scores"].values()})
    generated = results["card"]["made"].get(row["name"], {})
    marks = "".join(notes.mark(f"{key}: {note}") for key, each in row["notes"].items() for note in each)
    marks += notes.mark(f"changed: {'; '.join(row['changes'])}" if row["changes"] else "")
    given = "videos" in generated
    return [
        f"{row['name']} (measured here){marks}",
        values("is"),
        values("fvd"),
        ", ".join(map(str, counts)),
        ", ".join(str(n) for n in sorted(set(row["n_real"].values()))) or "-",
        "not known" if given else f"{plan['prompts']['name']} ({plan['prompts']['sha256'][:8]})",
        "as given" if given else str(settings["size"]),
        str(settings["frames"]),
        results["world"] or "measured",
        f"revision {short_revision(results['card']['revision'])}",
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
    """In what a published row's protocol differs from ours, and what of it is not known."""
    different, silent = [], []
    compared = {
        "videos": (row["n_generated"], str(videos)),
        "pixels": (row["resolution"], f"{settings['size']}x{settings['size']}"),
        "frames": (row["frames"], str(settings["frames"])),
    }
    for what, (theirs, ours) in compared.items():
        first = theirs.replace("~", "").partition(" ")[0]
        if theirs in UNKNOWN or any(f"({word})" in theirs for word in GUESSED):
            silent.append(what)
        elif first != ours:
            different.append(what)
    if row["prompts"] in UNKNOWN:
        silent.append("prompts")
    elif not (prompts == "class-name" and row["prompts"].startswith("class name")):
        different.append("prompts")
    return "; ".join([", ".join(different)] * bool(different) + [f"not known: {', '.join(silent)}"] * bool(silent))


def _number(score: Mapping[str, float]) -> str:
    if "low" not in score:
        return f"{score['value']:.2f}"
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def _floor(row: Mapping[str, Any], key: str) -> str:
    if key in row["floors"]:
        return f", floor {row['floors'][key]['value']:.2f} at n = {row['floors'][key]['n']}"
    return f", at most {row['ceilings'][key]['value']:.1f}" if key in row["ceilings"] else ""


def _scores(row: Mapping[str, Any]) -> list[Block]:
    lines = [
        [key, _number(score), str(score["n"]), _floor(row, key).removeprefix(", ")]
        for key, score in row["scores"].items()
    ]
    notes = [f"{key}: {note}" for key, each in row["notes"].items() for note in each]
    return [Heading(3, row["name"]), Grid(("score", "value, 95 %", "n", ""), lines), *[Items(notes)] * bool(notes)]


def _manifest(name: str, key: str, manifest: Mapping[str, Any]) -> list[Block]:
    kept = {field: value for field, value in manifest.items() if field not in ("ucf101", "real", "fake", "row")}
    if isinstance(manifest.get("real"), Mapping):
        kept["real"] = {k: v for k, v in manifest["real"].items() if k != "archive"}
    kept["row"] = manifest.get("row")
    return _pairs(f"{name}, {key}", kept)


def _estimate(content: Mapping[str, Any]) -> str:
    took = sum(content["seconds"].values())
    return f"Estimated beforehand: {content['estimate']['seconds']:.0f} s; this command's stages took {took:.0f} s."


def _pairs(title: str, content: Mapping[str, Any]) -> list[Block]:
    rows = [
        [key, str(value) if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)]
        for key, value in content.items()
    ]
    return [Heading(3, title), Grid(("", "value"), rows)]


def _lines(facts: Mapping[str, object]) -> str:
    return "\n".join(printable(f"{name}: {value}") for name, value in facts.items())


def _load(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if results.get("schema") != 1:
        raise ValueError(f"{path} has the schema {results.get('schema')}; this version reads 1")
    return results
