import pytest

from tests.datasets.aistpp.fakes import fake_song_features, official


@pytest.fixture
def quick_music(monkeypatch):
    """The stand-in for the extractor, so that these tests measure the preparation and not librosa."""
    monkeypatch.setattr("datasets.music.song_features", fake_song_features)


@pytest.fixture
def source(tmp_path):
    return official(tmp_path / "source")
