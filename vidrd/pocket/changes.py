"""Videos of the pocket world whose caption changes: the object stays in place and takes another color and action."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from vidrd.pocket.world import ACTIONS, ATTRIBUTES, COLOURS, MOTIONS, Scene, caption, draw_scene, render

CHANGED = ("colour", "action")  # what a change alters; shape, texture and background stay


def draw_changes(seed: int, segments: int, frames: int, said: Sequence[Mapping[str, str]] = ()) -> list[Scene]:
    """The scenes of a video that changes every so many frames.

    Args:
        seed: of the first scene, which also decides what follows.
        segments: number of scenes.
        frames: from one change to the next.
        said: attributes of each scene, where they are given: another video of the same captions.
    """
    scenes = [draw_scene(seed, **(said[0] if said else {}))]
    for number in range(1, segments):
        before = scenes[-1]
        wanted = dict(said[number]) if said else _others(before, seed + number)
        scenes.append(continued(draw_scene(seed + number, **wanted), before, number * frames))
    return scenes


def attributes(scene: Scene) -> dict[str, str]:
    """What the caption of a scene names."""
    return {name: str(getattr(scene, name)) for name in ATTRIBUTES}


def continued(scene: Scene, before: Scene, time: float | int) -> Scene:
    """The scene with its object where that of the scene before is at that time, as large and as turned at rest."""
    still = np.zeros(1)
    old, new = (MOTIONS[each.action].pose(np.array([each.phase + each.speed * time])) for each in (before, scene))
    x, y = (getattr(before, axis) + float((old.get(axis, still) - new.get(axis, still))[0]) for axis in ("x", "y"))
    return replace(scene, x=x, y=y, radius=before.radius, angle=before.angle)


def render_changes(
    videos: Sequence[Sequence[Scene]],  # the scenes of each video, equally many
    segment: int,  # frames of a scene
    frames: int,  # of a video; its last scene may be shorter
    *,
    size: int = 32,
) -> UInt8[ndarray, "N T H W C"]:
    """Draw videos in which one scene follows the other, exactly, at every frame."""
    starts = range(0, frames, segment)
    parts = [
        render([scenes[number] for scenes in videos], min(segment, frames - start), start=start, size=size)
        for number, start in enumerate(starts)
    ]
    return np.concatenate(parts, axis=1)


def prompt_of(scenes: Sequence[Scene], segment: int) -> str:
    """The captions as a schedule of prompts."""
    return " | ".join(f"{number * segment}: {caption(scene)}" for number, scene in enumerate(scenes))


def _others(before: Scene, draw: int) -> dict[str, str]:
    """Another color and action of the same object."""
    kept = {name: value for name, value in attributes(before).items() if name not in CHANGED}
    round_and_plain = kept["shape"] == "circle" and kept["texture"] == "plain"
    actions = [
        action
        for action in ACTIONS
        if action != before.action and not (round_and_plain and action.startswith("rotating"))  # could not be seen
    ]
    colours = [colour for colour in COLOURS if colour != before.colour]
    return {**kept, "colour": colours[draw % len(colours)], "action": actions[draw % len(actions)]}
