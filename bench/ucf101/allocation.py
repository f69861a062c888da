"""How many videos are made of which prompt: rules, and the lists of videos that they give."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

from bench.ucf101.classes import class_counts
from bench.ucf101.prompts import Prompt, PromptSet

Shares = Literal["train", "all", "equal"]


class AllocatedVideo(NamedTuple):
    """One video to be made. All randomness of it is a function of the run and these two."""

    prompt: str  # id
    sample: int  # which one of that prompt, from 0


@dataclass(frozen=True)
class Rule:
    """A number of videos, and how classes share it."""

    name: str
    total: int | None = None  # videos in all
    each: int | None = None  # or videos a class; a prompt, where prompts have no class
    shares: Shares = "equal"  # in proportion to UCF-101's trainlist01, to all its videos, or the same for all
    counts: tuple[tuple[str, int], ...] = ()  # or videos of each class or prompt, by name
    source: str = ""


RULES: dict[str, Rule] = {
    "vidrd-10k": Rule("vidrd-10k", total=10_000, shares="train", source=(
        "VidRD's page: 10K videos in the class distribution of the training set; trainlist01 and largest remainder are "
        "our reading")),
    "videopoet-10k": Rule("videopoet-10k", total=10_000, shares="train", source=(
        "VideoPoet, appendix: 10 000 videos; how classes share them is not stated, trainlist01 is our reading")),
    "100-a-class": Rule("100-a-class", each=100, source="VideoFactory, LaVie, CMD: 100 videos a class, 10 100 in all"),
    "stylegan-v-2048": Rule("stylegan-v-2048", total=2048, shares="all", source=(
        "StyleGAN-V: 2048 videos against train+test; it has no prompts, the classes of all videos are our reading")),
}  # fmt: skip
PATTERN = re.compile(r"(?P<n>[1-9]\d*)-(?P<how>a-class|by-train|by-all|equally)")


def rule(name: str | Path) -> Rule:
    """A rule by name, as N-a-class, N-by-train, N-by-all or N-equally, or from a .json {class or prompt: count}.

    Raises:
        ValueError: no such rule, or a file that is none.
    """
    if str(name) in RULES:
        return RULES[str(name)]
    if match := PATTERN.fullmatch(str(name)):
        n, how = int(match["n"]), match["how"]
        shares: Shares = "train" if how == "by-train" else "all" if how == "by-all" else "equal"
        whole = {"each": n} if how == "a-class" else {"total": n, "shares": shares}
        return Rule(str(name), source="custom", **whole)
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return _from_file(path)
    raise ValueError(
        f"there is no allocation {str(name)!r}: take {', '.join(RULES)}, N-a-class, N-by-train, N-by-all, N-equally "
        'or a .json of {"class or prompt": count}'
    )


def allocate(
    how: str | Path | Rule | Mapping[str, int],  # name or file of a rule, a rule, or counts by class or prompt id
    prompts: PromptSet,
    class_videos: Mapping[str, int] | None = None,  # videos of each class that shares go by; None: the official counts
) -> tuple[AllocatedVideo, ...]:
    """The items of a set of prompts, in the order of its prompts; prompts of one class share its videos evenly.

    Raises:
        ValueError: no such rule, a class without prompts, prompts without classes under a rule that needs them, or more
            classes than videos.
    """
    if isinstance(how, Mapping):
        chosen = Rule("custom", counts=tuple(how.items()), source="custom")
    else:
        chosen = how if isinstance(how, Rule) else rule(how)
    counts = _prompt_counts(chosen, prompts, class_videos)
    return tuple(AllocatedVideo(prompt.id, i) for prompt in prompts.prompts for i in range(counts[prompt.id]))


def manifest(chosen: Rule, items: Sequence[AllocatedVideo]) -> dict[str, object]:
    """What says how many videos of which prompt there are, with a hash of the whole list."""
    stated = {name: value for name, value in asdict(chosen).items() if value not in (None, (), "")}
    lines = "".join(f"{item.prompt}\t{item.sample}\n" for item in items)
    return {**stated, "items": len(items), "items_sha256": hashlib.sha256(lines.encode()).hexdigest()}


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares of `total` in proportion to weights (Hamilton's method); equal remainders go to the first.

    Exact: in fractions, not floats.

    Raises:
        ValueError: no weight is positive, one is negative, or the total is.
    """
    if total < 0 or sum(weights) <= 0 or min(weights) < 0:
        raise ValueError(f"shares of {total} need weights of 0 or more, not all 0: got {list(weights)[:5]}")
    quotas = [Fraction(total * weight, sum(weights)) for weight in weights]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(weights)), key=lambda i: (shares[i] - quotas[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _prompt_counts(chosen: Rule, prompts: PromptSet, class_videos: Mapping[str, int] | None) -> dict[str, int]:
    of: dict[str | None, list[Prompt]] = {}
    for prompt in prompts.prompts:
        of.setdefault(prompt.class_name, []).append(prompt)
    if chosen.counts:
        return _given(chosen, prompts, of)
    if None in of:
        if chosen.total is not None and chosen.shares != "equal":
            raise ValueError(
                f"{chosen.name} goes by class, and {prompts.name} has prompts without one: name their classes, or take "
                "N-equally or N-a-class (then a prompt)"
            )
        each = chosen.each
        shares = [each] * len(prompts.prompts) if each is not None else largest_remainder(
            chosen.total or 0, [1] * len(prompts.prompts))  # fmt: skip
        return {prompt.id: n for prompt, n in zip(prompts.prompts, shares, strict=True)}
    if class_videos is None:
        class_videos = class_counts(1, "all" if chosen.shares == "all" else "train")
    wanted = [name for name, videos in class_videos.items() if videos or chosen.shares == "equal"]
    lacking = [name for name in wanted if name not in of]
    if lacking:
        raise ValueError(f"{prompts.name} has no prompt for {len(lacking)} classes ({', '.join(lacking[:3])})")
    if chosen.each is not None:
        shares = [chosen.each] * len(wanted)
    else:
        weights = [1 if chosen.shares == "equal" else class_videos[name] for name in wanted]
        shares = largest_remainder(chosen.total or 0, weights)
    counts = dict.fromkeys((prompt.id for prompt in prompts.prompts), 0)
    for name, share in zip(wanted, shares, strict=True):
        counts |= _among(share, of[name])
    return counts


def _given(chosen: Rule, prompts: PromptSet, of: Mapping[str | None, list[Prompt]]) -> dict[str, int]:
    counts = dict.fromkeys((prompt.id for prompt in prompts.prompts), 0)
    for name, n in chosen.counts:
        if name in of:
            counts |= _among(n, of[name])
        elif name in counts:
            counts[name] = n
        else:
            raise ValueError(f"{name!r} is neither a class nor a prompt of {prompts.name}")
    return counts


def _among(videos: int, prompts: Sequence[Prompt]) -> dict[str, int]:
    shares = largest_remainder(videos, [1] * len(prompts))
    return {prompt.id: n for prompt, n in zip(prompts, shares, strict=True)}


def _from_file(path: Path) -> Rule:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an allocation: {error}") from error
    whole = isinstance(content, dict) and content and all(type(n) is int and n >= 0 for n in content.values())
    if not whole:
        raise ValueError(f'{path} must hold {{"class or prompt": number of videos}}')
    return Rule(f"custom:{path.name}", counts=tuple(content.items()), source=f"the file {path.name}")
