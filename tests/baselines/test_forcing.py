"""The matrix of diffusion forcing: from `direct` over FIFO's diagonal to block after block."""

import math
from itertools import pairwise

import pytest
import torch
from toys import CLIP, CONFIG, SCHEDULE, SEEDS, STEPS, Coupled, Separable, close, ddim, initial, request, run

import baselines.direct
from baselines import fifo, forcing
from baselines.forcing import PUBLISHED, Options, plan, rows_of
from vidrd.noise import KeyedNoise
from vidrd.schedule import Schedule
from vidrd.solvers import schedule as solver_schedule

FRAMES = 3 * CLIP - 1
FLOW = Schedule.flow([1000 * (8 - step) / 8 for step in range(8)], [1 - step / 8 for step in range(9)])


def published_matrix(frames, steps, ar_step, block):
    """Steps that each frame has taken before each row, by SkyReels-V2's rule: from the row before, block by block."""
    blocks = math.ceil(frames / block)
    rows, row = [], [0] * blocks
    while min(row) < steps:
        rows.append(row)
        after = []
        for number in range(blocks):
            free = number == 0 or row[number - 1] >= steps  # the one before is done
            after.append(row[number] + 1 if free else after[-1] - ar_step)
        row = [min(max(taken, 0), steps) for taken in after]
    return [[taken[frame // block] for frame in range(frames)] for taken in rows]


def levels_told(options, frames, steps=STEPS):
    denoise, schedule = Coupled(), Schedule.ddim(CONFIG, steps)
    run(forcing, frames, denoise, schedule, ar_step=options.ar_step, block=options.block)
    return [[schedule.timesteps.index(int(time)) for time in told.tolist()] for _, told in denoise.calls]


def check_matrix():
    for ar_step in (1, 2, 3, STEPS):
        for block in (1, 2, 3):
            options = Options(ar_step, block)
            rows = list(rows_of(request(FRAMES), STEPS, options))
            matrix = published_matrix(FRAMES, STEPS, ar_step, block)
            told = levels_told(options, FRAMES)
            assert len(told) == len(rows) == len(matrix)
            for row, levels, taken, after in zip(rows, told, matrix, [*matrix[1:], [STEPS] * FRAMES], strict=True):
                assert levels == [min(steps, STEPS - 1) for steps in taken[row.first : row.last]]
                moved = [frame for frame in range(FRAMES) if after[frame] > taken[frame]]
                assert moved == list(range(row.begin, row.end)), (ar_step, block)


def test_levels_are_the_published_matrix():
    check_matrix()


def test_no_step_behind_is_direct_to_the_bit():
    for frames in (CLIP + 1, FRAMES):
        for eta in (0.0, 1.0):
            asked = request(frames, eta=eta)
            straight = baselines.direct.sample(Coupled(), SCHEDULE, asked, dtype=torch.float64).latents
            assert torch.equal(run(forcing, frames, ar_step=0, asked=asked), straight)


def test_one_step_behind_is_the_diagonal_of_fifo():
    """From call to call the window goes on as FIFO's queue does: the frame that is done leaves, noise enters."""
    schedule, denoise = Schedule.ddim(CONFIG, CLIP), Coupled()
    run(forcing, FRAMES, denoise, schedule, ar_step=1)
    queue = fifo.queue_of(CLIP, CLIP, fifo.Options(lookahead=False))
    diagonal = [
        call for call in denoise.calls if [schedule.timesteps.index(t) for t in call[1].tolist()] == [3, 2, 1, 0]
    ]
    assert len(diagonal) == FRAMES - CLIP + 1
    for (seen, told), (after, _) in pairwise(diagonal):

        def answer(windows, told=told):
            return [schedule.step(x, Coupled()(x, told), queue.levels) for x in windows]

        assert close(after[:, :, :-1], fifo.turn(seen, queue, answer)[:, :, 1:])


def test_all_steps_behind_is_block_after_block_with_clean_frames_before():
    denoise, block = Coupled(), 2
    video = run(forcing, FRAMES, denoise, ar_step=STEPS, block=block)
    assert torch.equal(video, run(forcing, FRAMES, ar_step=STEPS + 5, block=block))
    for number, (seen, _) in enumerate(denoise.calls):
        last = max(CLIP, min(FRAMES, block * (number // STEPS + 1)))
        before = block * (number // STEPS)
        assert torch.equal(seen[:, :, : before - last + CLIP], video[:, :, last - CLIP : before])


@pytest.mark.parametrize("schedule", [SCHEDULE, FLOW], ids=["noise", "flow"])
@pytest.mark.parametrize("ar_step", [None, 0, 1, 3, STEPS])
@pytest.mark.parametrize("block", [1, 2, 3, CLIP])
@pytest.mark.parametrize("frames", [1, CLIP, CLIP + 1, FRAMES])
def test_frames_of_a_separable_network_are_plain_ddim(frames, block, ar_step, schedule):
    video = run(forcing, frames, Separable(), schedule, ar_step=ar_step, block=block)
    assert close(video, ddim(initial(frames), schedule=schedule))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("block", [1, 2, 3, CLIP])
def test_by_default_a_clip_holds_all_that_is_under_way_and_one_step_less_would_not(steps, block):
    asked, options = request(5 * CLIP), Options(block=block)
    assert {last - first for first, last in plan(asked, steps, options).windows} == {CLIP}
    lag = options.lag(asked, steps)
    fewer = Options(ar_step=lag - 1, block=block)
    assert max(last - first for first, last in plan(asked, steps, fewer).windows) > CLIP


def test_tails_that_are_no_whole_block_are_kept():
    """The published code floors the number of blocks, and the frames beyond vanish."""
    video = run(forcing, 2 * CLIP + 1, block=2)
    assert video.shape[2] == 2 * CLIP + 1
    assert close(run(forcing, 2 * CLIP + 1, Separable(), block=2), ddim(initial(2 * CLIP + 1)))


def test_solvers_with_a_memory_have_one_for_each_block():
    """Where frames do not couple, each is what the solver makes of it alone, however far behind it stands."""
    schedule = solver_schedule("dpmsolver++", CONFIG, 8)
    alone = baselines.direct.sample(Separable(), schedule, request(FRAMES), dtype=torch.float64).latents
    for block, ar_step in ((1, None), (2, 3), (3, 8)):
        assert close(run(forcing, FRAMES, Separable(), schedule, ar_step=ar_step, block=block), alone)


def test_the_published_schedule_orders_the_frames_of_a_clip_too():
    denoise = Coupled()
    run(forcing, CLIP, denoise, Schedule.ddim(CONFIG, 8), compat="diffusers")
    told = [call[1].tolist() for call in denoise.calls]
    assert len(told) == 8 + PUBLISHED * (CLIP - 1)
    assert told[8] == [0, *told[3][:1], *told[0][2:]]  # done, 3 steps taken, waiting


def test_what_cannot_be_made_says_why():
    with pytest.raises(ValueError, match="a block is at most a clip of 4 frames: got 5"):
        plan(request(9), STEPS, Options(block=5))
    with pytest.raises(ValueError, match="ar_step is a count of steps from 0 upwards, or None: got -1"):
        Options(ar_step=-1)
    with pytest.raises(ValueError, match="a block has at least 1 frame: got 0"):
        Options(block=0)
    with pytest.raises(ValueError, match="compat is paper or diffusers: got 'official'"):
        Options(compat="official")
    denoise = Coupled()
    denoise.per_frame = False
    with pytest.raises(ValueError, match="one noise level for all frames"):
        run(forcing, FRAMES, denoise)
    assert close(run(forcing, FRAMES, denoise, ar_step=0), run(forcing, FRAMES, ar_step=0))


def test_noise_is_drawn_for_the_frames_that_move():
    drawn = []

    def noise(purpose, clip, shape, step=0):
        drawn.append((purpose, shape[1], step))
        return KeyedNoise(SEEDS)(purpose, clip, shape, step)

    run(forcing, FRAMES, noise=noise, asked=request(FRAMES, eta=0.5), ar_step=2)
    rows = list(rows_of(request(FRAMES), STEPS, Options(2)))
    steps = [(frames, step) for purpose, frames, step in drawn if purpose == "step"]
    assert steps == [(row.end - row.begin, number) for number, row in enumerate(rows)]


HONEST = rows_of


def early(*given):
    """Windows that begin a frame too early."""
    return (row._replace(first=max(0, row.first - 1)) for row in HONEST(*given))


def stopping(*given):
    """The oldest frame under way takes no step."""
    return (row._replace(begin=min(row.begin + 1, row.end - 1)) for row in HONEST(*given))


def cut(*given):
    """The last row is missing."""
    return list(HONEST(*given))[:-1]


def check_all():
    check_matrix()
    test_frames_of_a_separable_network_are_plain_ddim(FRAMES, 1, 2, SCHEDULE)


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (forcing, "rows_of", early),
        (forcing, "rows_of", stopping),
        (forcing, "rows_of", cut),
        (Options, "lag", lambda self, request, steps: self.ar_step + 1),
    ],
    ids=["window a frame early", "a frame that stops", "a row too few", "a step too far behind"],
)
def test_planted_faults_are_seen(monkeypatch, owner, name, fault):
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(AssertionError):
        check_all()
