"""The table of writers: every format from one dance, and failures that stop nothing else."""

from contextlib import contextmanager

import numpy as np
import pygltflib
import pytest

from tests.body_models import save_npz
from tests.swaying import dance
from utils.body_model import load_body_model
from utils.dance import Dance, load_dance
from utils.dance_formats import WRITERS, WriterInput, WriterOptions, attempt, index_entry, write_files
from utils.export import fit_body, fitted_joints
from utils.smpl import rest_joints

CODES = np.arange(6).reshape(3, 2)


@pytest.fixture
def one():
    return Dance("one", dance(24), np.array([2, 20]), song="s", codes=CODES)


def paths(folder):
    return {name: folder / f"one{writer.suffix}" for name, writer in WRITERS.items()}


def test_every_format_is_written_from_one_record(one, tmp_path):
    failures, timed = {}, []

    @contextmanager
    def clock(part):
        timed.append(part)
        yield

    given = WriterInput(one, options=WriterOptions(height=64))
    write_files(given, paths(tmp_path), failures, clock)
    assert failures == {}
    assert timed == [writer.label for writer in WRITERS.values()]
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in paths(tmp_path).values()}
    np.testing.assert_array_equal(load_dance(tmp_path / "one.npz").codes, CODES)
    entry = index_entry(tmp_path, "one", given, paths(tmp_path), "GPT", {}, tmp_path / "none.png", failures)
    assert (entry.player, entry.video, entry.beat_plot) == (tmp_path / "one.html", tmp_path / "one.mp4", None)
    assert list(entry.files) == ["BVH", "glTF", "SMPL", "Motion"]


def test_a_format_that_fails_stops_no_other(one, tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("utils.export.bvh.write_bvh", full)
    (tmp_path / "one.bvh").write_text("of an earlier dance")
    failures = {}
    chosen = {name: path for name, path in paths(tmp_path).items() if name in ("bvh", "glb", "npz")}
    write_files(WriterInput(one), chosen, failures)
    assert failures == {f"BVH {tmp_path / 'one.bvh'}": "disk full"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.glb", "one.npz"]
    assert "disk full" in caplog.text
    with pytest.raises(KeyError), attempt("a fault of ours", failures):
        raise KeyError("not hidden")


def test_a_body_is_fitted_once_and_drawn_only_if_wanted(one, monkeypatch):
    calls = []
    monkeypatch.setattr("utils.export.fit.fit_body", lambda *a, **k: calls.append(1) or fit_body(*a, **k))
    plain = WriterInput(one)
    assert plain.drawn is one
    assert not calls
    fitted = WriterInput(one, options=WriterOptions(draw_fitted=True))
    body = fitted_joints(fit_body(one.joints, rest_joints())).astype(np.float32)
    np.testing.assert_array_equal(fitted.drawn.joints, body)
    assert fitted.body is fitted.own_fit
    assert len(calls) == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_body_model(
        save_npz(tmp_path_factory.mktemp("smpl") / "SMPL_FEMALE.npz", "female"), betas=(1.0,)
    )


def test_a_body_model_is_in_glb_smpl_and_video(one, model, tmp_path, monkeypatch):
    shown, failures = {}, {}
    monkeypatch.setattr(
        "utils.render.video.render_video", lambda path, dance, **more: shown.update(dance=dance, **more)
    )
    given = WriterInput(one, body_model=model)
    fitted = {"mp4": "smpl", "glb": "smpl", "smpl": "smpl", "bvh": "body", "html": "", "npz": ""}
    assert {name: given.fitted_for(name) for name in WRITERS} == fitted
    assert {name: WriterInput(one).fitted_for(name) for name in WRITERS} == {
        name: writer.needs for name, writer in WRITERS.items()
    }
    write_files(given, paths(tmp_path), failures)
    assert failures == {}
    file = pygltflib.GLTF2().load(str(tmp_path / "one.glb"))
    points = file.accessors[file.meshes[0].primitives[0].attributes.POSITION]
    assert points.count == 6890
    with np.load(tmp_path / "one_smpl.npz") as arrays:
        assert str(arrays["gender"]) == "female"
        np.testing.assert_array_equal(arrays["betas"], [1, *[0] * 9])
        size = float(arrays["smpl_scaling"][0])
        first = arrays["smpl_trans"][0] + size * model.rest_joints[0]
    body = shown["body"]
    assert body.model is model
    assert body.size == pytest.approx(size)
    np.testing.assert_allclose(body.root[0], first, atol=1e-6)
    # the drawn joints are those of the body, at the dancer's size: the rest pose of another gender is near
    posed = model.posed(body.matrices(), body.root / size - model.rest_joints[0])[1] * size
    np.testing.assert_allclose(shown["dance"].joints, posed, atol=1e-5)
    assert np.linalg.norm(shown["dance"].joints - one.joints, axis=-1).mean() < 0.03
