import unicodedata

import pytest

from utils.filenames import MAX_BYTES, name_key, names_apart, safe_name

SCRIPTS = "\u97f3\u697d \u0645\u0648\u0633\u064a\u0642\u0649 \U0001f3b5"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain song", "plain song"),
        ('a<b>c:d"e/f\\g|h?i*j', "a_b_c_d_e_f_g_h_i_j"),
        ("tab\tnew\nline\x00\x7f", "tab_new_line__"),
        ("two\u2028lines", "two_lines"),
        ("ends in dots...", "ends in dots"),
        (" spaces  . ", "spaces"),
        (".hidden", "_hidden"),
        ("...", "_"),
        ("CON", "CON_"),
        ("nul.tar", "nul_.tar"),
        ("Com1", "Com1_"),
        ("LPT\u00b3", "LPT\u00b3_"),
        ("aux .x", "aux _.x"),
        ("CONIN$", "CONIN$_"),
        ("console", "console"),
        ("COM10", "COM10"),
        ("Ba$$in, 100$_$50 & A$AP", "Ba$$in, 100$_$50 & A$AP"),
        (SCRIPTS, SCRIPTS),
        ("cafe\u0301", "caf\u00e9"),
        ("odd \udcff byte", "odd _ byte"),
        ("\uffff", "_"),
        ("", "untitled"),
        (" ", "untitled"),
    ],
)  # fmt: skip
def test_names_are_legal_everywhere(text, expected):
    assert safe_name(text) == expected
    assert safe_name(expected) == expected


def test_long_names_are_cut_between_characters():
    for text in ("é" * 90, "\u97f3" * 90, "a\u0323\u0307" * 90, FAMILY * 20, "x" * 99 + ". . .y", "a" * 300):
        name = safe_name(text)
        assert MAX_BYTES - 30 < len(name.encode()) <= MAX_BYTES
        assert unicodedata.normalize("NFC", text).startswith(name)
        assert not name.endswith((".", " ", "\u200d"))
        assert safe_name(name) == name
    assert safe_name(FAMILY * 20) == FAMILY * 5  # 18 bytes each, 90 of 100
    assert len(safe_name("con." + "x" * 200).encode()) == MAX_BYTES
    only_marks = safe_name("a" + "\u0301" * 200)
    assert 0 < len(only_marks.encode()) <= MAX_BYTES


def test_names_that_some_file_system_takes_for_one():
    assert name_key("Caf\u00e9") == name_key("CAFE\u0301")
    assert name_key("a") != name_key("b")
    texts = ["a:b", "A?B", "a_b", "a_b_2", "caf\u00e9", "cafe\u0301", "CON", "con_", "a:b"]
    names = names_apart(texts)
    assert list(names) == list(dict.fromkeys(texts))
    assert len({name_key(name) for name in names.values()}) == len(names)
    assert names["a:b"] == "a_b"
    assert names["A?B"] == "A_B_2"
    assert names_apart(["one", "two"]) == {"one": "one", "two": "two"}


def test_a_safe_name_can_be_written(tmp_path):
    for text in ("a/b", "../up", "\x00", "x" * 500, "\udcff", "CON"):
        path = tmp_path / f"{safe_name(text)}_smpl.npz"
        path.write_text("there")
        assert path.parent == tmp_path
