"""The pocket world: a procedural set of captioned action videos with exact ground truth at any length.

One textured shape on a gradient background performs one of fourteen actions. Motion is a closed-form, periodic
function of absolute time, so a window of 8 frames shows its action wherever it starts, and a video of any length is
exact. The frame is a torus of width 2 (x to the right, y down, both in [-1, 1)): what leaves at one side enters at the
other. Edges and textures are anti-aliased by their distance to the pixel's center.

The motions are tuned for one unit of time a frame: shorter than that they look alike, longer than that they alias.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

TRAIN_SEEDS: Final = range(1_000_000)  # scenes that networks learn from
TEST_SEEDS: Final = range(10_000_000, 11_000_000)  # scenes that judge them; never trained on

RGB = tuple[int, int, int]

# Colours are bright, backgrounds dull, so that none of the first is lost on one of the second.
COLOUR_RGB: Final[dict[str, RGB]] = {
    "red": (235, 40, 40),
    "green": (45, 195, 60),
    "blue": (45, 105, 255),
    "yellow": (255, 230, 40),
    "orange": (255, 135, 10),
    "purple": (180, 60, 225),
    "cyan": (60, 225, 240),
    "white": (248, 248, 248),
}
BACKGROUND_RGB: Final[dict[str, tuple[RGB, RGB]]] = {  # at the top, at the bottom
    "navy": ((12, 16, 62), (24, 34, 104)),
    "grey": ((92, 92, 94), (146, 146, 148)),
    "olive": ((74, 80, 24), (124, 126, 52)),
    "maroon": ((64, 12, 26), (112, 28, 48)),
}

CHUNK_PIXELS: Final = 2**18  # rendered at once: a few MB, so that intermediate images stay in the cache
RIM: Final = 0.12  # width of the untextured rim, radii: keeps the outline readable where dark tones meet the ground
DARK: Final = 0.22  # brightness of a texture's dark tone, as a share of the object's color


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt() - 0.95


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.86


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs() * 0.75**0.5 - y * 0.5, y) - 0.63


def _star(x: Tensor, y: Tensor, tip: float = 1.3, notch: float = 0.65) -> Tensor:
    """Fold the plane into the wedge of 36 degrees next to one tip; there the outline is one straight edge."""
    cos, sin = np.cos(np.pi / 5), np.sin(np.pi / 5)
    x, y = x.abs(), -y
    for side in (1, -1):
        beyond = 2 * (side * cos * x - sin * y).clamp_min(0)
        x, y = x - beyond * (side * cos), y + beyond * sin
    across, along = tip - notch * cos, notch * sin  # the edge's normal
    return (across * x.abs() + along * (y - tip)) / float(np.hypot(across, along))


# Signed distances to the outline in object coordinates: unit 1 = the scene's radius, negative inside.
SHAPE_DISTANCE: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
}


def _bands(x: Tensor, pixel: Tensor, period: float) -> Tensor:
    """Equally wide bands along x, in turn 1 (the first has its middle at 0) and 0, with a ramp of one pixel between."""
    x = x / period
    return (0.5 + ((x - x.round()).abs() - 0.25) * (-period) / pixel).clamp(0, 1)


def _shaded(x: Tensor, y: Tensor, pixel: Tensor) -> Tensor:
    return ((x + y) * 0.25 + 0.15).clamp(0, 0.4)


def _striped(x: Tensor, y: Tensor, pixel: Tensor) -> Tensor:
    return _bands(y, pixel, 0.76)


def _checked(x: Tensor, y: Tensor, pixel: Tensor) -> Tensor:
    across, down = _bands(x - 0.27, pixel, 1.08), _bands(y - 0.27, pixel, 1.08)
    return across + down - 2 * across * down


def _dotted(x: Tensor, y: Tensor, pixel: Tensor, period: float = 0.74, radius: float = 0.2) -> Tensor:
    x, y = x / period, y / period
    x, y = (x - x.round()) * period, (y - y.round()) * period
    return (0.5 - ((x * x + y * y).sqrt() - radius) / pixel).clamp(0, 1)


# How dark a texture is, in [0, 1], at object coordinates (x, y), where a pixel is `pixel` wide.
TEXTURE_TONE: Final[dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "plain": _shaded,
    "striped": _striped,
    "checked": _checked,
    "dotted": _dotted,
}


class Motion(NamedTuple):
    """One action: where a scene's object is after u cycles."""

    periods: tuple[float, float]  # range of one cycle, units of time
    room: tuple[float, float]  # how far from the middle the object may be in x and y
    pose: Callable[[ndarray], dict[str, ndarray]]  # u -> offsets x, y and angle (radians), factors scale and opacity


def _sawtooth(u: ndarray, rise: float = 0.8) -> ndarray:
    """0 -> 1 evenly during `rise` of a cycle, then quickly and smoothly back: a motion with a direction in time."""
    part = u - np.floor(u)
    back = np.clip((part - rise) / (1 - rise), 0, 1)
    return np.where(part < rise, part / rise, 1 - back * back * (3 - 2 * back))


def _drop(u: ndarray, fall: float = 0.8) -> ndarray:
    """Fall once around the torus: accelerate evenly from rest during `fall` of a cycle, then brake."""
    part = u - np.floor(u)
    return np.where(part < fall, 2 * part**2 / fall, 2 - 2 * (1 - part) ** 2 / (1 - fall))


def _turn(u: ndarray) -> ndarray:
    return 2 * np.pi * u


MOTIONS: Final[dict[str, Motion]] = {
    "moving left": Motion((8.0, 11.0), (0.0, 0.4), lambda u: {"x": -2 * u}),
    "moving right": Motion((8.0, 11.0), (0.0, 0.4), lambda u: {"x": 2 * u}),
    "moving up": Motion((8.0, 11.0), (0.4, 0.0), lambda u: {"y": -2 * u}),
    "moving down": Motion((8.0, 11.0), (0.4, 0.0), lambda u: {"y": 2 * u}),
    "rotating clockwise": Motion((20.0, 28.0), (0.3, 0.3), lambda u: {"angle": _turn(u)}),
    "rotating counterclockwise": Motion((20.0, 28.0), (0.3, 0.3), lambda u: {"angle": -_turn(u)}),
    "growing": Motion((11.0, 14.0), (0.2, 0.2), lambda u: {"scale": 0.55 + 0.7 * _sawtooth(u)}),
    "shrinking": Motion((11.0, 14.0), (0.2, 0.2), lambda u: {"scale": 1.25 - 0.7 * _sawtooth(u)}),
    "bouncing": Motion((6.0, 7.5), (0.4, 0.05), lambda u: {"y": 0.5 - np.abs(np.sin(np.pi * u))}),
    "orbiting": Motion(
        (9.0, 12.0), (0.06, 0.06), lambda u: {"x": 0.38 * np.cos(_turn(u)), "y": 0.38 * np.sin(_turn(u))}
    ),
    "shaking": Motion((3.2, 4.0), (0.2, 0.35), lambda u: {"x": 0.24 * np.sin(_turn(u))}),
    "pulsing": Motion((5.0, 6.5), (0.2, 0.2), lambda u: {"scale": 0.9 + 0.33 * np.sin(_turn(u))}),
    "dropping": Motion((9.0, 11.0), (0.4, 0.05), lambda u: {"y": _drop(u) - 0.5}),
    "fading out": Motion((11.0, 14.0), (0.35, 0.35), lambda u: {"opacity": 1 - 0.92 * _sawtooth(u)}),
}

SHAPES: Final = tuple(SHAPE_DISTANCE)
COLOURS: Final = tuple(COLOUR_RGB)
TEXTURES: Final = tuple(TEXTURE_TONE)
BACKGROUNDS: Final = tuple(BACKGROUND_RGB)
ACTIONS: Final = tuple(MOTIONS)
ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "action": ACTIONS,
}


@dataclass(frozen=True)
class Scene:
    """The complete description of one video; `render` draws it at any time."""

    shape: str
    colour: str
    texture: str
    background: str
    action: str
    speed: float  # cycles of the action per unit of time
    phase: float  # cycles done at time 0, in [0, 1)
    x: float  # position of the object, before the action's own offset
    y: float
    radius: float  # half-width of the frame = 1
    angle: float  # radians, clockwise


def draw_scene(seed: int, **fixed: str) -> Scene:
    """Draw the scene of a seed; `fixed` pins attributes (action="orbiting") and leaves the others as the seed has them.

    The rotation of a plain circle is invisible, so it never rotates: it gets a texture, or another shape if the texture
    is pinned, or another action if both are.

    Raises:
        ValueError: an attribute or a value of it is unknown, or a plain rotating circle is asked for.
    """
    for name, value in fixed.items():
        if name not in ATTRIBUTES:
            raise ValueError(f"a scene has no attribute {name!r} to fix: take one of {', '.join(ATTRIBUTES)}")
        if value not in ATTRIBUTES[name]:
            raise ValueError(f"{value!r} is no {name} of the pocket world: take one of {', '.join(ATTRIBUTES[name])}")
    draws = iter(np.random.Generator(np.random.PCG64(seed)).random(len(fields(Scene)) + 1).tolist())
    chosen = {name: _pick(values, next(draws)) for name, values in ATTRIBUTES.items()} | fixed

    again = next(draws)
    if chosen["shape"] == "circle" and chosen["texture"] == "plain" and chosen["action"].startswith("rotating"):
        free = [name for name in ("texture", "shape", "action") if name not in fixed]
        if not free:
            raise ValueError("a plain circle cannot be seen to rotate: fix another texture, shape or action")
        unsuited = ("plain", "circle", "rotating clockwise", "rotating counterclockwise")
        chosen[free[0]] = _pick([value for value in ATTRIBUTES[free[0]] if value not in unsuited], again)

    motion = MOTIONS[chosen["action"]]
    return Scene(
        **chosen,
        speed=1 / _between(*motion.periods, next(draws)),
        phase=next(draws),
        x=_between(-motion.room[0], motion.room[0], next(draws)),
        y=_between(-motion.room[1], motion.room[1], next(draws)),
        radius=_between(0.4, 0.48, next(draws)),
        angle=_between(-0.3, 0.3, next(draws)),
    )


def _pick(values: Sequence[str], draw: float) -> str:
    return values[int(draw * len(values))]


def _between(low: float, high: float, draw: float) -> float:
    return low + (high - low) * draw


def caption(scene: Scene) -> str:
    """The caption of a scene: "a red striped star rotating clockwise on a navy background"."""
    return (
        f"{_article(scene.colour)} {scene.colour} {scene.texture} {scene.shape} {scene.action}"
        f" on {_article(scene.background)} {scene.background} background"
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


VOCABULARY: Final[tuple[str, ...]] = tuple(
    sorted({"a", "an", "on", "background"}.union(*(v.split() for values in ATTRIBUTES.values() for v in values)))
)


def labels(scene: Scene) -> dict[str, int]:
    """Index of each attribute's value in `ATTRIBUTES`."""
    return {name: values.index(getattr(scene, name)) for name, values in ATTRIBUTES.items()}


def render(
    scenes: Sequence[Scene],
    frames: int,
    *,
    size: int = 32,  # pixels, height and width
    start: float | int | Sequence[float | int] = 0.0,  # time of the first frame, for all or for each scene
    step: float | int = 1.0,  # time from frame to frame; 0 gives still videos
) -> UInt8[ndarray, "N T H W C"]:
    """Draw the frames at start, start + step, ... of each scene, RGB.

    Every frame depends on its scene and its time alone: render(frames=64)[:, a:b] equals render(frames=b-a, start=a)
    bit for bit, however scenes are batched.

    Raises:
        ValueError: frames or size is below 1, a time is not finite, or starts and scenes differ in number.
    """
    if frames < 1 or size < 1:
        raise ValueError(f"a video needs at least 1 frame of 1 pixel: got {frames} frames of size {size}")
    starts = np.asarray(start, dtype=np.float64)
    if starts.ndim and len(starts) != len(scenes):
        raise ValueError(f"give one start for all scenes or one for each: got {len(starts)} for {len(scenes)} scenes")
    times = np.broadcast_to(starts.reshape(-1, 1) + step * np.arange(frames), (len(scenes), frames))
    if not np.isfinite(times).all():
        raise ValueError(f"times must be finite: got start={start} and step={step}")

    videos = np.empty((len(scenes), frames, size, size, 3), dtype=np.uint8)
    flat = torch.from_numpy(videos.reshape(-1, size, size, 3))
    chunk = max(1, CHUNK_PIXELS // size**2)

    def kind(index: int) -> tuple[str, str]:
        return scenes[index].shape, scenes[index].texture

    for (shape, texture), members in itertools.groupby(sorted(range(len(scenes)), key=kind), key=kind):
        alike = list(members)
        rows = (np.array(alike)[:, None] * frames + np.arange(frames)).reshape(-1)
        poses = _poses([scenes[i] for i in alike], times[alike])
        ground, colour = _palette([scenes[i] for i in alike], frames, size)
        for first in range(0, len(rows), chunk):
            part = slice(first, first + chunk)
            flat[torch.from_numpy(rows[part])] = _draw(shape, texture, poses[part], ground[part], colour[part], size)
    return videos


def _poses(scenes: Sequence[Scene], times: Float[ndarray, "N T"]) -> Float[Tensor, "F 5"]:
    """x, y, radius, angle and opacity of each scene at its times, frames of all scenes in one row (F = N T)."""
    poses = np.empty((*times.shape, 5))
    for pose, scene, time in zip(poses, scenes, times, strict=True):
        offset = MOTIONS[scene.action].pose(scene.phase + scene.speed * time)
        pose[:, 0] = scene.x + offset.get("x", 0)
        pose[:, 1] = scene.y + offset.get("y", 0)
        pose[:, 2] = scene.radius * offset.get("scale", 1)
        pose[:, 3] = scene.angle + offset.get("angle", 0)
        pose[:, 4] = offset.get("opacity", 1)
    poses[..., :2] -= 2 * np.round(poses[..., :2] / 2)  # in float64: late times keep their precision
    return torch.from_numpy(poses.reshape(-1, 5))


def _palette(scenes: Sequence[Scene], frames: int, size: int) -> tuple[Float[Tensor, "F C H"], Float[Tensor, "F C"]]:
    """Background (a vertical gradient) and color of each frame, in [0, 255]."""
    down = np.linspace(0, 1, size)
    ends = np.array([BACKGROUND_RGB[scene.background] for scene in scenes], dtype=np.float64)[..., None]
    ground = ends[:, 0] * (1 - down) + ends[:, 1] * down
    colour = np.array([COLOUR_RGB[scene.colour] for scene in scenes])
    per_frame = (torch.from_numpy(array.astype(np.float32)).repeat_interleave(frames, 0) for array in (ground, colour))
    return next(per_frame), next(per_frame)


def _draw(
    shape: str,
    texture: str,
    poses: Float[Tensor, "F 5"],
    ground: Float[Tensor, "F C H"],
    colour: Float[Tensor, "F C"],
    size: int,
) -> UInt8[Tensor, "F H W C"]:
    """Frames of one shape and texture. Every operation on pixels rounds exactly, so that batching changes no bit."""
    x, y, radius, _, opacity = (p.float()[:, None, None] for p in poses.unbind(1))
    cos, sin = (f(poses[:, 3]).float()[:, None, None] for f in (torch.cos, torch.sin))
    centres = (torch.arange(size) + 0.5) * (2 / size) - 1
    dx, dy = centres[None, None, :] - x, centres[None, :, None] - y
    dx, dy = (dx - 2 * (dx / 2).round()) / radius, (dy - 2 * (dy / 2).round()) / radius  # the torus: nearest copy
    across, down = cos * dx + sin * dy, cos * dy - sin * dx
    pixel = (2 / size) / radius

    distance = SHAPE_DISTANCE[shape](across, down)
    cover = (0.5 - distance / pixel).clamp_(0, 1).mul_(opacity)
    tone = TEXTURE_TONE[texture](across, down, pixel)
    if texture != "plain":
        tone = tone * (0.5 - (distance + RIM) / pixel).clamp_(0, 1)
    light = 1 - (1 - DARK) * tone

    # ground + cover * (colour * light - ground), the channels last only as they are written
    frames = torch.empty(len(poses), size, size, 3, dtype=torch.uint8)
    bare, lit = 1 - cover, cover * light
    for channel in range(3):
        value = bare * ground[:, channel, :, None] + lit * colour[:, channel, None, None]
        frames[..., channel] = value.add_(0.5).to(torch.uint8)
    return frames


def world(
    seeds: Iterable[int], *, frames: int = 8, size: int = 32, start: float | int | Sequence[float | int] = 0.0
) -> tuple[UInt8[ndarray, "N T H W C"], list[Scene]]:
    """The videos and scenes of some seeds, as `draw_scene` and `render` make them."""
    scenes = [draw_scene(seed) for seed in seeds]
    return render(scenes, frames, size=size, start=start), scenes
