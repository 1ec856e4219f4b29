"""The formats in which a dance is written: one table for `--dance`, `--eval` and `python -m utils.export`.

A new format is a function of a path and a `WriterInput`, and a line in `WRITERS`: the command's flag, a value
of `dance.formats` and the link on the page follow from it. Writers import what they need when they are
called, as configs check names of formats without scipy, matplotlib and av.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from utils.dance import Dance, save_dance
from utils.floor import floor_height

if TYPE_CHECKING:
    from utils.body_model import BodyModel, BodyMotion
    from utils.export.fit import Fit
    from utils.export.footlock import FootLock
    from utils.render.index import IndexEntry

log = logging.getLogger(__name__)
Failures = dict[str, str]
"""File or picture that could not be made -> why."""


@dataclass(frozen=True)
class WriterOptions:
    """Settings of the writers; each uses those that concern its format.

    Attributes:
        title: of videos and pages; the dance's name if empty.
        label: name of the dance on its page; the title if empty.
        height: of videos, in pixels.
        progress: show a progress bar while a video is drawn.
        footlock: hold planted feet in place, in all formats but npz.
        draw_fitted: draw the fitted body in videos and pages instead of the joints themselves.
        names: whose joint names are used in bvh and glb: smpl, mixamo or vrm.
        unit: of lengths in bvh, cm or m.
        every: keep each n-th frame in bvh and glb.
        in_place: leave the path on the ground out of bvh and glb.
    """

    title: str = ""
    label: str = ""
    height: int = 540
    progress: bool = False
    footlock: bool = False
    draw_fitted: bool = False
    names: Literal["smpl", "mixamo", "vrm"] = "smpl"
    unit: Literal["cm", "m"] = "cm"
    every: int = 1
    in_place: bool = False


@dataclass(frozen=True, eq=False)
class WriterInput:
    """A dance and everything that writers need; bodies are computed once, when first needed.

    The body of a dance with rotations is theirs; to any other one a body is fitted.

    Attributes:
        dance: the dance.
        audio: sound file of its song; None if that is not at hand.
        options: settings of the writers.
        facts: metrics and the like, shown on its page.
        beside: other dances on its page, each with its facts.
        body_model: SMPL's body, whose mesh glb holds and videos show; None for a figure of limbs.
    """

    dance: Dance
    audio: Path | None = None
    options: WriterOptions = WriterOptions()
    facts: Mapping[str, Any] = field(default_factory=dict)
    beside: Sequence[tuple[Dance, Mapping[str, Any]]] = ()
    body_model: "BodyModel | None" = None

    @property
    def title(self) -> str:
        """Title of videos and pages."""
        return self.options.title or self.dance.name

    @property
    def rest(self) -> np.ndarray:
        """(24, 3) SMPL's rest joints, metres."""
        from utils.smpl import rest_joints

        return rest_joints()

    @property
    def smpl_rest(self) -> np.ndarray:
        """(24, 3) rest joints of SMPL's body, metres: those of the body model, if there is one."""
        return self.rest if self.body_model is None else self.body_model.rest_joints

    @cached_property
    def floor(self) -> float:
        """Height in metres of the foot joints of the standing dancer."""
        return floor_height(self.dance.joints, self.dance.fps, self.dance.skeleton)

    @cached_property
    def own_fit(self) -> "Fit":
        """Rotations of rigid bones with the dancer's own lengths, feet not locked."""
        from utils.export.fit import body_of_rotations, fit_body

        if self.dance.rotations is not None:
            return body_of_rotations(self.dance.joints, self.dance.rotations, self.rest, self.dance.skeleton)
        return fit_body(self.dance.joints, self.rest, skeleton=self.dance.skeleton)

    @cached_property
    def foot_lock(self) -> "FootLock | None":
        """The fit with its feet locked, and how much that changed; None if they are not to be."""
        return self._locked(self.own_fit) if self.options.footlock else None

    @property
    def body(self) -> "Fit":
        """Content of bvh and glb: the own fit, with its feet locked if so wanted."""
        return self.own_fit if self.foot_lock is None else self.foot_lock.fit

    @cached_property
    def smpl_fit(self) -> "tuple[Fit, float]":
        """SMPL's body at the dancer's size, feet not locked, and that size."""
        from utils.export.smpl import fit_smpl, resized

        if self.dance.rotations is not None:
            if self.body_model is None:
                return self.own_fit, 1.0  # the rotations are those of SMPL's mean male body
            return resized(self.own_fit, self.dance.joints, self.smpl_rest)
        return fit_smpl(self.dance.joints, self.smpl_rest)

    @cached_property
    def smpl_body(self) -> "tuple[Fit, float]":
        """Content of smpl: SMPL's body, with its feet locked if so wanted, and its size."""
        fit, size = self.smpl_fit
        return (self._locked(fit).fit if self.options.footlock else fit), size

    @cached_property
    def body_motion(self) -> "BodyMotion":
        """SMPL's mesh in motion; there must be a body model."""
        from utils.body_model import BodyMotion

        assert self.body_model is not None
        fit, size = self.smpl_body
        return BodyMotion(self.body_model, fit.rotations, fit.root, size)

    @cached_property
    def drawn(self) -> Dance:
        """The dance as videos and pages show it, with the joints of the fitted body if so wanted."""
        if not self.options.draw_fitted:
            return self.dance
        from utils.export.fit import fitted_joints

        joints = fitted_joints(self.body, self.dance.skeleton).astype(np.float32)
        return replace(self.dance, joints=joints, rotations=None)

    @property
    def filmed(self) -> "tuple[Dance, BodyMotion | None]":
        """The dance as videos and pictures show it, and SMPL's mesh if it is shown."""
        if self.body_model is None:
            return self.drawn, None
        return replace(self.dance, joints=self.body_motion.joints, rotations=None), self.body_motion

    def fitted_for(self, name: str) -> Literal["", "body", "smpl"]:
        """The body that is fitted for a format: SMPL's where its mesh is written or shown."""
        meshes = self.body_model is not None and name in ("glb", "mp4")
        return "smpl" if meshes else WRITERS[name].needs

    def _locked(self, fit: "Fit") -> "FootLock":
        from utils.export.footlock import lock_feet

        dance = self.dance
        return lock_feet(fit, dance.joints, self.floor, dance.fps, skeleton=dance.skeleton)


def write_npz(path: Path, given: WriterInput) -> None:
    """Write joints, codes, beats and provenance as they came from the networks."""
    save_dance(path, given.dance)


def write_bvh(path: Path, given: WriterInput) -> None:
    """Write the rotations of the fitted body as text."""
    from utils.export import bvh

    dance, how = given.dance, given.options
    bvh.write_bvh(
        path, given.body, dance.fps, unit=how.unit, every=how.every, names=how.names, in_place=how.in_place,
        skeleton=dance.skeleton,
    )  # fmt: skip


def write_glb(path: Path, given: WriterInput) -> None:
    """Write SMPL's mesh if there is a body model, else the fitted body as a skinned figure."""
    from utils.export import gltf, mesh

    dance, how = given.dance, given.options
    name = path.stem
    if given.body_model is not None:
        mesh.write_mesh(
            path, given.body_motion, dance.fps, every=how.every, name=name, names=how.names,
            in_place=how.in_place,
        )  # fmt: skip
        return
    gltf.write_glb(
        path, given.body, dance.fps, every=how.every, name=name, names=how.names, in_place=how.in_place,
        skeleton=dance.skeleton,
    )  # fmt: skip


def write_smpl(path: Path, given: WriterInput) -> None:
    """Write SMPL parameters of SMPL's own body."""
    from utils.export import smpl

    model, (fit, size) = given.body_model, given.smpl_body
    smpl.write_smpl(
        path, fit, size, given.smpl_rest, given.dance.fps, gender="male" if model is None else model.gender,
        betas=() if model is None else model.betas,
    )  # fmt: skip


def write_mp4(path: Path, given: WriterInput) -> None:
    """Draw a video with the song."""
    from utils.render import video

    how, (shown, body) = given.options, given.filmed
    video.render_video(
        path, shown, audio=given.audio, title=given.title, height=how.height, progress=how.progress, body=body
    )


def write_html(path: Path, given: WriterInput) -> None:
    """Write a page on which the dance, and those beside it, can be turned and played."""
    from utils.render import player

    shown = [(replace(given.drawn, name=given.options.label or given.title), given.facts), *given.beside]
    dances, facts = zip(*shown, strict=True)
    player.write_player(path, dances, given.audio, given.title, facts)


class Writer(NamedTuple):
    """A format.

    Attributes:
        suffix: what its files add to the name of the dance.
        label: its name in messages and links.
        needs: the body that is fitted for it: `body` with the dancer's own lengths, `smpl`, or none.
        write: writes the file, beside its place and renamed.
        contains: what the file holds, for the help of the command.
    """

    suffix: str
    label: str
    needs: Literal["", "body", "smpl"]
    write: Callable[[Path, WriterInput], None]
    contains: str


WRITERS: dict[str, Writer] = {
    "npz": Writer(".npz", "Motion", "", write_npz, "joints, codes, beats"),
    "bvh": Writer(".bvh", "BVH", "body", write_bvh, "rotations as text"),
    "glb": Writer(".glb", "glTF", "body", write_glb, "a skinned figure"),
    "smpl": Writer("_smpl.npz", "SMPL", "smpl", write_smpl, "SMPL parameters"),
    "mp4": Writer(".mp4", "Video", "", write_mp4, "a video with the song"),
    "html": Writer(".html", "Player", "", write_html, "a page to turn and play it"),
}


@contextmanager
def attempt(what: str, failures: Failures, *files: Path) -> Iterator[None]:
    """Log and note an error within, and go on.

    Args:
        what: name of what is made within.
        failures: takes why it could not be made.
        files: files that it would have replaced; older ones are removed, so that no page links to the file
            of another dance.
    """
    from av import FFmpegError

    try:
        yield
    except (ValueError, OSError, FFmpegError) as error:
        failures[what] = str(error)
        log.warning("no %s: %s", what, error)
        for file in files:
            if file.is_file():
                file.unlink()


def write_files(
    given: WriterInput,
    paths: Mapping[str, Path],
    failures: Failures,
    timed: Callable[[str], AbstractContextManager[Any]] = lambda part: nullcontext(),
) -> None:
    """Write a dance in several formats; one that fails does not stop the others.

    Args:
        given: the dance.
        paths: format -> file.
        failures: takes what could not be made.
        timed: context of each format, by its label.
    """
    for name, path in paths.items():
        label = WRITERS[name].label
        with attempt(f"{label} {path}", failures, path), timed(label):
            WRITERS[name].write(path, given)


def index_entry(
    folder: Path,
    stem: str,
    given: WriterInput,
    paths: Mapping[str, Path],
    label: str,
    metrics: Mapping[str, Any],
    beat_plot: Path,
    failures: Failures,
) -> "IndexEntry":
    """Draw the picture of a dance, and make its card with links to those of its files that exist.

    Args:
        folder: of the index page; the picture goes into thumbnails/ there.
        stem: name of the picture.
        given: the dance.
        paths: format -> file.
        label: a word over the picture.
        metrics: name -> value, shown on the card.
        beat_plot: plot of its beats.
        failures: takes what could not be made.
    """
    from utils.render.index import IndexEntry, write_thumbnail

    thumbnail = folder / "thumbnails" / f"{stem}.jpg"
    with attempt(f"picture of {stem}", failures, thumbnail):
        write_thumbnail(thumbnail, *given.filmed)
    linked = sorted(
        paths.keys() - {"html", "mp4"}, key=lambda name: (name == "npz", list(WRITERS).index(name))
    )
    files = {WRITERS[name].label: paths[name] for name in linked if paths[name].is_file()}

    def there(path: Path | None) -> Path | None:
        return path if path is not None and path.is_file() else None

    return IndexEntry(
        given.title,
        label,
        there(thumbnail),
        there(paths.get("html")),
        there(paths.get("mp4")),
        there(beat_plot),
        metrics,
        files,
    )


def shortened(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics rounded to the digits that are shown."""
    return {
        key: round(float(v), 4) if isinstance(v, float | np.floating) else v for key, v in metrics.items()
    }
