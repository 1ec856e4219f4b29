r"""File names that Windows, macOS and Linux all accept, made from any text and distinct from each other.

Windows forbids `<>:"/\\|?*`, control characters, dots and spaces at the end, and the names of devices (`CON`,
`nul.txt`, `COM1` ...). File systems of Windows and macOS take names that differ in case only for one name;
macOS also those that differ in their Unicode normal form only. Names are limited to 255 bytes (Linux) or 255
UTF-16 units (Windows, macOS).
"""

import re
import unicodedata
from collections.abc import Iterable

MAX_BYTES = 100  # of UTF-8: leaves room for suffixes, and for the names of temporary files beside
_RESERVED = re.compile(r'[<>:"/\\|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE)
_UNSAFE = {"Cc", "Cs", "Cn", "Zl", "Zp"}  # control, surrogate, unassigned; line and paragraph separators


def safe_name(text: str, max_bytes: int = MAX_BYTES, default: str = "untitled") -> str:
    """A name for a file, without suffix, that every common file system accepts.

    Characters that are not allowed become `_`; letters of any script stay. The result is in Unicode normal
    form C, and `safe_name` returns it unchanged.

    Args:
        text: any text, for example the stem of a song's file; bytes that were no UTF-8 may be in it as
            surrogates.
        max_bytes: length limit in bytes of UTF-8; a character, with its combining marks, is never cut.
        default: the name where nothing is left of the text.
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if unicodedata.category(sign) in _UNSAFE else sign for sign in text)
    text = _RESERVED.sub("_", text).strip()
    text = re.sub(r"^\.+", "_", text)  # a leading dot hides a file
    text = _shortened(text, max_bytes).rstrip(". ")
    device, dot, rest = text.partition(".")
    if _DEVICES.fullmatch(device.rstrip()):
        text = _shortened(f"{device}_{dot}{rest}", max_bytes).rstrip(". ")
    return text or default


def name_key(name: str) -> str:
    """A key that two names share if some file system does not distinguish them by case or normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def names_apart(texts: Iterable[str]) -> dict[str, str]:
    """A safe name for each of several texts, distinct on every file system.

    Returns:
        Text -> name, in the order of the texts; `_2`, `_3` ... is appended where a name is taken.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in texts:
        if text in names:
            continue
        plain = name = safe_name(text)
        number = 1
        while name_key(name) in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name_key(name))
        names[text] = name
    return names


def _shortened(text: str, max_bytes: int) -> str:
    """The beginning of a text that fits; cut where no combining mark or joined emoji follows."""
    if len(text.encode()) <= max_bytes:
        return text
    kept = text.encode()[:max_bytes].decode("utf-8", "ignore")
    end = len(kept)
    while 0 < end < len(text) and (_continues(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    return text[:end] or kept


def _continues(sign: str) -> bool:
    """Whether a character belongs to the one before it."""
    return (
        sign == "\u200d"
        or unicodedata.category(sign) in ("Mn", "Mc", "Me")
        or "\U0001f3fb" <= sign <= "\U0001f3ff"
    )
