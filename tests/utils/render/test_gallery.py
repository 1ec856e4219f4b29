"""Pictures of codes: the gallery and the histogram of usage."""

import matplotlib.image
import numpy as np
import pytest

from tests.swaying import dance, near
from utils.render.figure import LOWER, UPPER
from utils.render.gallery import GalleryPanel, draw_gallery, draw_usage


def test_the_gallery_is_a_picture_with_only_its_half_in_colour(tmp_path):
    panels = [GalleryPanel(f"code {k}", dance(16), 0.1 / (k + 1)) for k in range(5)]
    for half in ("upper", "lower"):
        draw_gallery(tmp_path / f"{half}.png", panels, half, "five codes")
    upper, lower = (matplotlib.image.imread(tmp_path / f"{half}.png")[..., :3] for half in ("upper", "lower"))
    assert upper.shape == lower.shape
    assert upper.shape[0] > 400
    counts = {}
    for half, picture in (("upper", upper), ("lower", lower)):
        warmth = picture[..., 0] - picture[..., 2]
        counts[half] = (warmth > 0.3).sum(), (warmth < -0.3).sum()
    assert counts["upper"][0] > 2000
    assert counts["upper"][1] < 10
    assert counts["lower"][0] < 10
    assert counts["lower"][1] > 2000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lower.png", "upper.png"]


def test_bad_galleries_are_refused(tmp_path):
    good = GalleryPanel("good", dance(4), 0.5)
    for panels, half, message in (
        ([], "upper", "no panels"),
        ([good], "middle", "middle"),
        ([good._replace(title="odd", joints=np.zeros((4, 3)))], "upper", "odd"),
        ([good._replace(title="hole", joints=np.full((4, 24, 3), np.nan))], "upper", "hole"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_gallery(tmp_path / "a.png", panels, half, "title")
    with pytest.raises(ValueError, match="lower half"):
        draw_usage(tmp_path / "a.png", {"upper": np.ones(4), "lower": np.zeros(4)})
    assert not list(tmp_path.iterdir())


def test_the_usage_is_a_picture_of_two_histograms(tmp_path):
    draw_usage(tmp_path / "usage.png", {"upper": np.array([5, 0, 1]), "lower": np.ones(8, int)})
    picture = matplotlib.image.imread(tmp_path / "usage.png")[..., :3]
    assert near(255 * picture, UPPER, 0.02).sum() > 1000
    assert near(255 * picture, LOWER, 0.02).sum() > 1000
