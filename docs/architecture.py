"""Draw the rooms of the project and the imports between them: python docs/architecture.py writes docs/architecture.svg.

A room is a folder of a package, or the files directly in it. The imports are read from the sources, so the picture
shows what is there; tests/test_architecture.py fails when it is out of date.
"""

import ast
from collections.abc import Container, Iterable
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGES = ("vidrd", "baselines", "metrics", "bench", "reports")
PLACES = {"vidrd": (0, 0), "baselines": (0, 1), "bench": (1, 0), "metrics": (2, 0), "reports": (2, 1)}  # column, row
COLUMN, GAP, LINE, HEAD, MARGIN = 250, 110, 22, 34, 20  # px
LETTER = 6.6  # px, of the font at 12 px


def modules(root: Path = ROOT) -> dict[str, str]:
    """Full name of every module -> its source."""
    sources = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return sources


def rooms(names: Iterable[str]) -> dict[str, str]:
    """Module -> its room: package.folder, or the package for files directly in it."""
    known = list(names)
    folders = {name.rpartition(".")[0] for name in known} | set(PACKAGES)
    return {
        name: ".".join(name.split(".")[:2]) if name.count(".") > 1 or name in folders else name.split(".")[0]
        for name in known
    }


def imports(source: str, known: Container[str]) -> set[str]:
    """Modules of the project that a source imports, wherever in it the import is."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {part if part in known else node.module for part in parts}
    return {name for name in names if name in known}


def house(root: Path = ROOT) -> tuple[dict[str, int], set[tuple[str, str]]]:
    """Room -> how many files it has; pairs of rooms of which the first imports the second."""
    sources = modules(root)
    room = rooms(sources)
    files: dict[str, int] = {}
    for name in sources:
        files[room[name]] = files.get(room[name], 0) + 1
    arrows = {
        (room[name], room[other])
        for name, source in sources.items()
        for other in imports(source, sources)
        if room[name] != room[other]
    }
    return files, arrows


def draw(files: dict[str, int], arrows: set[tuple[str, str]]) -> str:
    """The picture as SVG: one box per package with its rooms, and an arrow to each package that it imports."""
    inside = {package: sorted(room for room in files if room.split(".")[0] == package) for package in PACKAGES}
    height = {package: HEAD + LINE * len(inside[package]) + 12 for package in PACKAGES}
    boxes: dict[str, tuple[int, int]] = {}
    for package in PACKAGES:
        column, row = PLACES[package]
        above = [height[other] for other in PACKAGES if PLACES[other][0] == column and PLACES[other][1] < row]
        boxes[package] = (MARGIN + column * (COLUMN + GAP), MARGIN + sum(above) + 70 * len(above))
    width = MARGIN * 2 + 3 * COLUMN + 2 * GAP
    total = max(boxes[package][1] + height[package] for package in PACKAGES) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" height="{total}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        "<title>Packages of the project, their rooms, and who imports whom</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#5f6673"/></marker></defs>',
        f'<rect width="{width}" height="{total}" fill="#fff"/>',
    ]
    parts += [_arrow(boxes, height, *pair) for pair in sorted({(a.split(".")[0], b.split(".")[0]) for a, b in arrows})]
    for package, (x, y) in boxes.items():
        parts.append(
            f'<rect x="{x}" y="{y}" width="{COLUMN}" height="{height[package]}" rx="8" '
            f'fill="#f4f6f9" stroke="#8a93a3"/>'
            f'<text x="{x + 14}" y="{y + 22}" font-size="15" font-weight="bold" fill="#1b1d22">{package}/</text>'
        )
        for line, room in enumerate(inside[package]):
            parts.append(_room(room, files[room], arrows, x + 14, y + HEAD + LINE * line + 14))
    return "\n".join([*parts, "</svg>", ""])


def _room(room: str, count: int, arrows: set[tuple[str, str]], x: int, y: int) -> str:
    """One line: name and number of files; what the room imports shows under the pointer."""
    name = room.split(".")[1] + "/" if "." in room else "(top)"
    used = sorted(other for one, other in arrows if one == room)
    shown = f"{room} imports {', '.join(used) or 'no other room'}"
    return (
        f'<g><title>{escape(shown)}</title><text x="{x}" y="{y}" fill="#1b1d22">{escape(name)}</text>'
        f'<text x="{x + COLUMN - 28}" y="{y}" text-anchor="end" fill="#5f6673">{count} '
        f"{'file' if count == 1 else 'files'}</text></g>"
    )


def _arrow(boxes: dict[str, tuple[int, int]], height: dict[str, int], one: str, other: str) -> str:
    """From the package that imports to the one that is imported; nothing within a package."""
    if one == other:
        return ""
    (x0, y0), (x1, y1) = boxes[one], boxes[other]
    if x0 == x1:  # one above the other
        up = y1 < y0
        start, end = (
            (x0 + COLUMN / 2, y0 if up else y0 + height[one]),
            (x1 + COLUMN / 2, y1 + height[other] if up else y1),
        )
    else:
        right = x1 > x0
        level = min(max(y0, y1) + 50, y0 + height[one] - 20, y1 + height[other] - 20)
        start, end = (x0 + COLUMN if right else x0, level), (x1 if right else x1 + COLUMN, level)
        if max(y0, y1) > level:  # no common level: slanted
            start, end = (start[0], y0 + height[one] - 20), (end[0], y1 + height[other] - 20)
    path = f'd="M{start[0]:g} {start[1]:g} L{end[0]:g} {end[1]:g}"'
    return f'<path {path} stroke="#5f6673" stroke-width="1.5" fill="none" marker-end="url(#head)"/>'


def picture(root: Path = ROOT) -> str:
    """The SVG of the project as it is."""
    return draw(*house(root))


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"written: {PICTURE}")
