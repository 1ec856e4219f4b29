import json
import re
import shutil

import matplotlib.image
import numpy as np
import pytest

from tests.browser import chromium, opened
from tests.utils.render.player.test_player import HOSTILE, dance
from utils.dance import Dance
from utils.render.index import IndexEntry, lively_frame, write_index, write_thumbnail
from utils.render.player import write_player


def embedded(path):
    """The data of a page."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S
    )
    return json.loads(found[1])


def made(folder, name):
    """A file that a page may link to."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("<!DOCTYPE html><title>there</title>")
    return path


def test_links_are_relative_and_survive_any_file_name(tmp_path):
    folder = tmp_path / "eval"
    entry = IndexEntry(
        "a",
        player=made(folder, "players/50% #1 ?ü.html"),
        video=made(folder, "javascript:alert(1).mp4"),
        files={"BVH": made(folder, "a b.bvh")},
    )
    path = write_index(folder, [entry], "t")
    assert path == folder / "index.html"
    shown = embedded(path)["entries"][0]
    assert shown["player"] == "players/50%25%20%231%20%3F%C3%BC.html"
    assert shown["video"] == "javascript%3Aalert%281%29.mp4"
    assert shown["files"] == [["BVH", "a%20b.bvh"]]
    assert (shown["thumbnail"], shown["beatPlot"]) == (None, None)
    assert str(tmp_path) not in path.read_text("utf-8")


def test_a_link_that_would_break_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a: .*x\.html lies outside .*eval"):
        write_index(tmp_path / "eval", [IndexEntry("a", player=made(tmp_path, "x.html"))], "t")
    with pytest.raises(FileNotFoundError, match=r"a: there is no file .*gone\.mp4 to link to"):
        write_index(tmp_path, [IndexEntry("a", video=tmp_path / "gone.mp4")], "t")
    assert not (tmp_path / "index.html").exists()


def test_numbers_of_tables_and_dances_are_those_given(tmp_path):
    table = {"real": {"FID_k": 12.3456, "BAS": np.float32(0.25)}, "GPT": {"BAS": float("nan"), "PFC": 2}}
    metrics = {"BAS": np.float64(0.5), "PFC": float("inf"), "song": "mBR4", "FID": None}
    data = embedded(write_index(tmp_path, [IndexEntry("a", metrics=metrics)], "t", {"Summary": table}))
    assert set(data["meanings"]) == {"BAS", "PFC", "song", "FID_k"}
    assert data["tables"] == [
        {
            "title": "Summary",
            "columns": ["FID_k", "BAS", "PFC"],
            "rows": [["real", ["12.35", "0.250", "–"]], ["GPT", ["–", "–", "2"]]],
        }
    ]
    assert data["entries"][0]["metrics"] == [
        ["BAS", "0.500", 0.5], ["PFC", "inf", None], ["song", "mBR4", "mBR4"], ["FID", "–", None],
    ]  # fmt: skip


def test_the_thumbnail_shows_a_frame_in_which_much_happens(tmp_path):
    joints = np.repeat(dance(1), 300, 0)
    joints[150:160] += np.linspace(0, 0.5, 10)[:, None, None].astype(np.float32)
    assert 145 <= lively_frame(joints, 60) <= 160
    assert lively_frame(joints[:1], 60) == 0
    assert lively_frame(joints[:9], 60) == 0  # nothing moves
    picture = matplotlib.image.imread(write_thumbnail(tmp_path / "new" / "a.jpg", Dance("a", joints)))
    assert picture.shape == (300, 480, 3)
    orange = (picture[..., 0] > 200) & (picture[..., 2] < 190) & (picture[..., 0] > picture[..., 2] + 40)
    rows = np.flatnonzero(orange.any(1))
    assert orange.sum() > 800
    assert rows[0] > 5  # the head is in the picture
    assert (tmp_path / "new" / "a.jpg").stat().st_size < 40_000
    write_thumbnail(tmp_path / "one.jpg", Dance("a", joints[:1]))
    joints[3] = np.nan
    with pytest.raises(ValueError, match=r"dance 'bad': joints must be finite.*1 of 300 frames"):
        write_thumbnail(tmp_path / "bad.jpg", Dance("bad", joints))


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    """A page of three dances, of which the last has no score."""
    folder = tmp_path / "eval"
    write_player(folder / "players" / "a 1.html", [Dance("a 1", dance(30))])
    shutil.copy(write_thumbnail(folder / "a.jpg", Dance("a", dance(30))), folder / "b.jpg")
    entries = [
        IndexEntry("a 10", "GPT", folder / "a.jpg", folder / "players" / "a 1.html", metrics={"BAS": 0.2}),
        IndexEntry("a 9", "real", folder / "b.jpg", metrics={"BAS": 0.7, "song": "mBR4"}),
        IndexEntry("b", metrics={"BAS": float("nan"), "song": "mBR1"}, files={"glTF": made(folder, "b.glb")}),
    ]
    write_index(folder, entries, "Dances of a test", {"Summary": {"real": {"BAS": 0.7}}})
    return folder


def names(page):
    return page.locator("h3").all_inner_texts()


def test_cards_are_shown_sorted_and_found(browser, folder):
    moved = folder.rename(folder.parent / "elsewhere")  # its links are relative
    with opened(browser, moved / "index.html") as page:
        page.wait_for_load_state("load")
        assert names(page) == ["a 10", "a 9", "b"]
        assert page.evaluate("[...document.images].map((each) => each.naturalWidth)") == [480, 480]
        page.get_by_label("Sort by").select_option(label="name")
        assert names(page) == ["a 9", "a 10", "b"]
        page.get_by_label("Sort by").select_option(label="beat alignment (BAS)")
        assert names(page) == ["a 10", "a 9", "b"]
        page.get_by_role("button", name="ascending").click()
        assert names(page) == ["a 9", "a 10", "b"]  # what has no number stays last
        page.get_by_label("Sort by").select_option(label="song")
        assert names(page) == ["a 9", "b", "a 10"]
        page.get_by_label("Find").fill("gp")
        assert names(page) == ["a 10"]
        assert page.locator("#count").inner_text() == "1 of 3"
        page.get_by_label("Find").fill("nothing")
        assert page.locator("#none").is_visible()
        page.get_by_label("Find").fill("")
        assert page.locator("table").inner_text().split() == ["Summary", "BAS", "real", "0.700"]
        assert page.get_by_role("link", name="glTF").get_attribute("href") == "b.glb"
        page.get_by_role("link", name="a 10", exact=True).click()
        page.wait_for_load_state("load")
        assert page.locator("h1").inner_text() == "a 1"


def test_hostile_names_stay_text(browser, tmp_path):
    entry = IndexEntry(HOSTILE, HOSTILE, player=made(tmp_path, "p.html"), metrics={HOSTILE: HOSTILE})
    write_index(tmp_path, [entry], HOSTILE, {HOSTILE: {HOSTILE: {HOSTILE: HOSTILE}}})
    with opened(browser, tmp_path / "index.html") as page:
        assert page.evaluate("window.hurt") is None
        for place in ("h1", "h3", ".label", "dt", "dd", "caption", "thead th", "tbody th", "tbody td"):
            assert page.locator(place).first.text_content() == HOSTILE
        assert page.locator("img").count() == 0
        assert page.locator("#sort option").last.get_attribute("value") == "0"


def test_numbers_have_units_direction_and_a_sentence(browser, tmp_path):
    metrics = {
        "tempo": "128 BPM, unsteady", "foot_skate": 0.0412, "floor_drift_mm": 93.12, "fit_error_mm": 0.0534,
        "fit_error_max_mm": 3.21, "worst_stretch_mm": 12.0, "max_turn_deg": 11.2, "constructor": 2,
    }  # fmt: skip
    notes = ["It stands still. <b>Try</b> another seed"]
    write_index(
        tmp_path, [IndexEntry("a", metrics=metrics, notes=notes)], "t", {"Scores": {"a": {"BAS": 0.5}}}
    )
    with opened(browser, tmp_path / "index.html") as page:
        shown = dict(
            zip(
                page.locator(".card dt").all_inner_texts(),
                page.locator(".card dd").all_inner_texts(),
                strict=True,
            )
        )
        assert {name.replace("\u00a0", " "): text.replace("\u00a0", " ") for name, text in shown.items()} == {
            "tempo": "128 BPM, unsteady", "foot sliding ↓": "4.12 %", "height drift, removed": "93.1 mm",
            "fit error, mean ↓": "0.0534 mm", "fit error, worst ↓": "3.21 mm",
            "bone stretch, worst ↓": "12.0 mm", "turn per frame, worst ↓": "11.2°", "constructor": "2",
        }  # fmt: skip
        for name, text in (
            ("foot sliding", "touches the floor slides along it. Lower is better."),
            ("height drift, removed", "has been removed from all files"),
            ("tempo", "Beats per minute"),
        ):
            button = page.get_by_role("button", name=name)
            assert text in button.get_attribute("title")
            assert text in button.locator("xpath=ancestor::div[1]").get_attribute("title")
        assert page.locator(".card button:not([title])").count() == 0
        assert page.locator("thead th").get_attribute("title").endswith("Higher is better.")
        # one stop for the tabulator key, then the arrows
        page.get_by_label("Sort by").focus()
        for _ in range(9):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className") == "what":
                break
        assert page.locator(".meaning").inner_text().startswith("Beats per minute")
        page.keyboard.press("ArrowDown")
        assert page.locator(".meaning").inner_text().startswith("Share of frames")
        page.keyboard.press("End")
        assert page.locator(".meaning").inner_text().startswith("Largest angle")
        assert page.locator(".meaning").is_visible()
        page.get_by_label("Find").focus()
        assert page.locator(".meaning").is_hidden()
        assert page.locator(".note").inner_text() == notes[0]
        page.get_by_text("What the numbers mean").click()
        assert page.locator("#meanings dt").all_inner_texts()[1] == "foot sliding (%)"
        assert page.locator("#meanings div").count() == 7


def test_it_fits_a_phone(browser, folder):
    with opened(browser, folder / "index.html", 390, 844) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator(".card").first.bounding_box()["width"] > 340
