"""A verdict as text: `python -m reports.gate_report verdict.json --markdown FILE --junit FILE ...`. Needs no torch.

If GITHUB_STEP_SUMMARY is set, the Markdown is also appended to that file.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import tyro
from tabulate import tabulate

from bench.results.option_types import TargetFile
from bench.results.records import refuse_constant, short_revision, write_atomic
from bench.results.verdicts import WORST, Finding
from reports.cli import run_command
from reports.format import MISSING, escape, number, printable

MARKS = {"PASS": "✅", "FAIL": "❌", "INVALID": "⛔", "INCONCLUSIVE": "❔", "CALIBRATION_NEEDED": "📏"}
COMMENT_BYTES = 60_000  # GitHub takes 65,536 characters
WORST_SHOWN = 12  # findings above the fold of a comment
COLUMNS = ("cell", "measure", "verdict", "base", "head", "change", "margin", "would see", "n", "why")


def report(
    verdict: Annotated[Path, tyro.conf.Positional],
    markdown: TargetFile | None = None,
    comment: TargetFile | None = None,
    junit: TargetFile | None = None,
) -> int:
    """Print a verdict, and write it in other formats.

    Args:
        verdict: The verdict.json of a gate or a comparison.
        markdown: Also write it as Markdown.
        comment: Also write it as Markdown that fits into the comment of a pull request.
        junit: Also write it as JUnit XML.
    """
    if not verdict.is_file():  # a pipe that nobody writes would be waited for
        raise ValueError(f"{verdict} is no verdict: there is no such file; `python -m bench gate` writes one")
    try:
        content = json.loads(verdict.read_text(encoding="utf-8"), parse_constant=refuse_constant)
        findings = [Finding.from_dict(finding) for finding in content["findings"]]
        text, page = as_text(content, findings), as_markdown(content, findings)
        short, cases = as_comment(content, findings), as_junit(content, findings)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{verdict} is no verdict ({error}): `python -m bench gate` writes one") from None
    print(text)
    if markdown is not None:
        write_atomic(markdown, page)
    if comment is not None:
        write_atomic(comment, short)
    if junit is not None:
        write_atomic(junit, cases)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(page)
    return 0


def as_text(content: Mapping[str, Any], findings: list[Finding]) -> str:
    """For a terminal: all findings in a table, then the reason for each one that is not PASS."""
    rows = [[printable(cell) for cell in _row(finding)] for finding in _sorted(findings)]
    narrow = [row[:-1] for row in rows]
    lines = [tabulate(narrow, headers=COLUMNS[:-1], disable_numparse=True), ""]
    lines += [printable(f"{f.verdict}: {f.cell}, {f.measure}: {f.reason}") for f in _loud(findings)]
    return "\n".join([*lines, f"{content['verdict']} ({_counted(findings)}; {content['seconds']:.0f} s)"])


def as_markdown(content: Mapping[str, Any], findings: list[Finding]) -> str:
    """A Markdown page: the verdict, what is wrong, every finding, how it was measured."""
    machine = content["machine"]
    of_speed = "94 % over all looks for speed" if "looks" in content else "98 % for times"
    settings = ", ".join(f"{name} {value}" for name, value in content.get("settings", {}).items())
    lines = [
        _heading(content),
        "",
        *map(_bullet, _loud(findings)),
        "",
        _table(_sorted(findings)),
        "",
        f"change: head relative to base, with its interval ({of_speed}, 90 % for quality). "
        "would see: the smallest change that would have been a FAIL in 9 of 10 cases.",
        "",
        escape(f"Measured on {machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu']}; ")
        + f"{escape(settings)}; {content['seconds']:.0f} s; {escape(content['written'])}.",
        "",
    ]
    for side, software in content.get("software", {}).items():
        lines.append(f"- {side}: " + escape(", ".join(f"{k} {v}" for k, v in software.items() if k != "tree")))
    return "\n".join([*lines, ""])


def as_comment(content: Mapping[str, Any], findings: list[Finding]) -> str:
    """The comment of a pull request: the verdict, the worst findings, and below a fold as many of all as fit."""
    loud, worst_first = _loud(findings), _sorted(findings)
    lines = [_heading(content), "", *map(_bullet, loud[:WORST_SHOWN])]
    if len(loud) > WORST_SHOWN:
        lines.append(f"- and {len(loud) - WORST_SHOWN} more that are not PASS")
    lines += ["", f"{_counted(findings)}; {content['seconds']:.0f} s on {escape(str(content['machine']['cpu']))}."]

    def folded(count: int) -> str:
        title = f"{count} of {len(findings)} findings" if count < len(findings) else f"{count} findings"
        more = ["", f"<details><summary>{title}</summary>", "", _table(worst_first[:count]), "", "</details>", ""]
        return "\n".join([*lines, *more])

    count = len(findings)
    while count and len(folded(count).encode()) > COMMENT_BYTES:
        count -= max(1, count // 10)
    return folded(count)


def _heading(content: Mapping[str, Any]) -> str:
    head, base = (escape(short_revision(content[side])) for side in ("head", "base"))
    return f"## {MARKS[content['verdict']]} {content['verdict']}: {head} against {base}"


def _bullet(finding: Finding) -> str:
    return f"- **{finding.verdict}** {escape(finding.cell)}, {escape(finding.measure)}: {escape(finding.reason)}"


def _table(findings: list[Finding]) -> str:
    rows = [[escape(cell) for cell in _row(finding)] for finding in findings]
    return tabulate(rows, headers=COLUMNS, tablefmt="pipe", disable_numparse=True)


def as_junit(content: Mapping[str, Any], findings: list[Finding]) -> str:
    """One test case per finding: FAIL is a failure, INVALID an error; findings without a decision count as skipped."""
    counts = Counter(finding.verdict for finding in findings)
    undecided = counts["INCONCLUSIVE"] + counts["CALIBRATION_NEEDED"]
    suite = ElementTree.Element(
        "testsuite", name="gate", tests=str(len(findings)), failures=str(counts["FAIL"]),
        errors=str(counts["INVALID"]), skipped=str(undecided), time=str(content["seconds"]),
    )  # fmt: skip
    kinds = {"FAIL": "failure", "INVALID": "error", "INCONCLUSIVE": "skipped", "CALIBRATION_NEEDED": "skipped"}
    for finding in findings:
        case = ElementTree.SubElement(
            suite, "testcase", classname=printable(finding.cell), name=printable(finding.measure)
        )
        reason = printable(f"{finding.verdict}: {finding.reason}")
        if finding.verdict in kinds:
            ElementTree.SubElement(case, kinds[finding.verdict], message=reason)
        else:
            ElementTree.SubElement(case, "system-out").text = reason
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _row(finding: Finding) -> list[str]:
    counted = finding.low is None
    share = finding.unit == "s" or counted
    change = MISSING if finding.change is None else f"{finding.change:+.1%}" if share else f"{finding.change:+.3g}"
    if finding.low is not None and finding.high is not None and finding.change is not None:
        ends = (finding.low, finding.high)
        change += " (" + " to ".join(f"{end:+.1%}" if share else f"{end:+.3g}" for end in ends) + ")"
    limits = [
        MISSING if limit is None else f"{limit:.2%}" if share else f"{limit:.3g}"
        for limit in (finding.margin, finding.detectable)
    ]
    sides = [MISSING if value is None else _amount(value, finding.unit) for value in (finding.base, finding.head)]
    n = str(finding.n) if not counted else ""
    return [finding.cell, finding.measure, finding.verdict, *sides, change, *limits, n, finding.reason]


def _amount(value: float, unit: str) -> str:
    if unit == "FLOP":
        return f"{number(value / 1e9, '')} GFLOP"
    if not unit and value == int(value):
        return str(int(value))
    return f"{number(value, unit)} {'MiB' if unit == 'bytes' else unit}".strip()


def _sorted(findings: list[Finding]) -> list[Finding]:
    """The worst verdict first; within a verdict in the order of measuring."""
    return sorted(findings, key=lambda finding: WORST.index(finding.verdict))


def _loud(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in _sorted(findings) if finding.verdict != "PASS"]


def _counted(findings: list[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in WORST if counts[verdict]) or "nothing was measured"


def main() -> int:
    """Run the command; returns its exit code."""
    return run_command(report, "python -m reports.gate_report", __doc__)


if __name__ == "__main__":
    sys.exit(main())
