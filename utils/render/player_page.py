"""Templates of web pages: names of any content stay text, and a page makes no network requests.

Data goes into the page as JSON in a data block, where `<`, `>` and `&` are written as escapes, so that no
name can end the block. A content security policy allows the page's one script by its hash, and nothing from
outside.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def safe_json(content: Any) -> str:
    """JSON in ASCII that may stand within a script element.

    Raises:
        ValueError: if a number is not finite, which JSON cannot hold.
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _ESCAPES[found[0]], text)


def fill(
    template: str, styles: Sequence[str], scripts: Sequence[str], title: str, data: Any, media: str
) -> bytes:
    """A page: template, styles, scripts and data in one.

    Args:
        template: file beside this one with slots {{title}}, {{policy}}, {{style}}, {{script}}, {{data}}.
        styles: CSS files beside this one, in order.
        scripts: JavaScript files beside this one, in order; together they are one strict script.
        title: of the page; may hold anything.
        data: what the script finds as JSON in the element `data`.
        media: what the policy allows of pictures and sound, as `img-src data:; media-src blob:`.
    """
    style = "\n".join(_read(name) for name in styles)
    script = '"use strict";\n' + "\n".join(_read(name) for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; {media}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts: Mapping[str, str] = {
        "title": html.escape(title),
        "policy": policy,
        "style": style,
        "script": script,
        "data": safe_json(data),
    }
    page = _SLOT.sub(lambda found: parts[found[1]], _read(template))  # once: a name may hold a slot
    return page.encode("utf-8", "replace")  # file names may hold bytes that are no characters


def format_fact(value: Any) -> str:
    """A number with at most four significant digits, a dash if it is not known, or text."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        text = f"{value:.3f}" if 0.1 <= abs(value) < 10 else f"{value:.4g}"
        return text.replace("-", "−") if "e" not in text else text
    return str(value)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
