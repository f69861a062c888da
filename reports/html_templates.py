"""Fills a template: the result is one HTML file that opens from disk, offline, with or without JavaScript.

Every string is data: the templates escape it, the scripts only ever set text, and the page's security policy allows no
other script to run and nothing to be loaded from elsewhere.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATE = Path(__file__).parent / "template"


def render(template: str, scripts: Sequence[str], **values: Any) -> str:
    """The HTML of a template in the folder `template`, with its values, the style sheet and the scripts by name."""
    script = "".join((TEMPLATE / f"{name}.js").read_text(encoding="utf-8") for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        css=Markup((TEMPLATE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        **values,
    )
