"""Training on a data set: exact resume, stages that change what they should, several processes that equal one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from tests.vidrd.data.clips import scenes
from vidrd.checkpoints import load_pipeline
from vidrd.data.adapters import Where
from vidrd.data.latents import LatentSet, cache_latents
from vidrd.data.prepare import prepare
from vidrd.data.shard_task import PreparePlan
from vidrd.data.shards import ShardSet
from vidrd.data.shots import CutSettings
from vidrd.exact_loading import quiet
from vidrd.models.unet import UNet3DConditionModel, is_temporal
from vidrd.models.vae import AutoencoderKLTemporal
from vidrd.pipeline import VidRDPipeline
from vidrd.pocket.world import VOCABULARY, caption, render
from vidrd.text import small_text_encoder, word_tokenizer
from vidrd.training import decoder_stage, full, launch, unet_stage
from vidrd.training.decoder_stage import load_vgg
from vidrd.training.feeds import caption_of
from vidrd.training.full import export, train_on_data
from vidrd.training.hyperparameters import Recipe
from vidrd.training.log import RunLog
from vidrd.training.loop import Validation, fit
from vidrd.training.losses import DecoderLoss, Discriminator, snr_weights
from vidrd.training.networks import add_low_rank, training_schedule
from vidrd.training.sample_stream import TrainingSample
from vidrd.training.settings import Settings, Stopped
from vidrd.training.stages import learns_from_video
from vidrd.video import write_video

ROOT = Path(__file__).parents[3]


def scheduler(prediction="v_prediction"):
    """Stable Diffusion's, whose last level keeps some signal."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction,
    )  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A tiny pipeline and a data set of a few pocket clips."""
    root = tmp_path_factory.mktemp("given")
    torch.manual_seed(0)
    tokenizer = word_tokenizer(VOCABULARY, 16)
    pipeline = VidRDPipeline(
        vae=AutoencoderKLTemporal(
            block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, temp_conv_dropout=0.0
        ),
        text_encoder=small_text_encoder(tokenizer, 16, layers=1, heads=2),
        tokenizer=tokenizer,
        unet=UNet3DConditionModel(
            sample_size=8, block_out_channels=(8, 16), down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            layers_per_block=1, attention_head_dim=2, cross_attention_dim=16, norm_num_groups=4,
            temp_conv_dropout=0.0,
        ),
        scheduler=scheduler(),
        clip=4,
    )  # fmt: skip
    with quiet():
        pipeline.save_pretrained(root / "model")
    (root / "clips").mkdir()
    some = scenes(6)
    for index, (scene, video) in enumerate(zip(some, render(some, 10, size=16), strict=True)):
        write_video(root / "clips" / f"{index}.mp4", video, fps=8, scale=2)
        (root / "clips" / f"{index}.txt").write_text(caption(scene))
    plan = PreparePlan("folder", Where(root / "clips"), CutSettings(None, "none", min_frames=4), duplicates=-1, unit=3)
    prepare(plan, root / "data", say=lambda line: None)
    shutil.copytree(root / "data", root / "more:1")
    return root


def settings(given, stage="temporal", **changes):
    base = {
        "stage": stage, "model": str(given / "model"), "data": (str(given / "data"),), "steps": 6, "batch": 4,
        "frames": 4, "size": 16, "warmup": 1, "learning_rate": 1e-2, "precision": "no", "ema": 0.5, "save_every": 3,
    }  # fmt: skip
    return Settings(**base | changes)


def weights(folder):
    pipeline = load_pipeline(folder)
    parts = {"unet": pipeline.unet, "vae": pipeline.vae, "text": pipeline.text_encoder}
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def changed(given, run):
    before, after = weights(given / "model"), weights(run / "pipeline")
    return {key for key in before if not torch.equal(before[key], after[key])}


@pytest.fixture(scope="module")
def trained(given, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    train_on_data(settings(given, show_every=6, show_steps=2), run)
    return run


def test_the_run_folder_holds_everything(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["settings"]["learning_rate"] == 1e-2
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6
    assert lines[-1]["peak_bytes"] > 0
    assert list((trained / "tensorboard").glob("events.*"))
    strip = np.asarray(Image.open(trained / "samples" / "step-0000006.png"))
    assert strip.shape == (4 * 16, 4 * 16, 3)
    pipeline = load_pipeline(trained / "pipeline")
    assert pipeline.config.clip == 4
    assert pipeline.unet.config.sample_size == 8


def test_the_temporal_stage_trains_what_the_figure_marks(given, trained):
    keys = changed(given, trained)
    assert keys
    assert all(key.startswith("unet.") and learns_from_video(key) for key in keys)
    assert any(is_temporal(key) for key in keys)
    assert any(".attn1." in key for key in keys)


@pytest.mark.parametrize(
    ("stage", "learn", "fits"),
    [
        ("image", (), lambda key: key.startswith("unet.") and not is_temporal(key)),
        ("temporal", ("temporal",), lambda key: key.startswith("unet.") and is_temporal(key)),
        ("temporal", ("temporal", "text"), lambda key: key.startswith("text.") or is_temporal(key)),
        ("vae-decoder", (), lambda key: key.startswith("vae.decoder.") and is_temporal(key)),
        ("vae-decoder", ("decoder", "temporal"), lambda key: key.startswith(("vae.decoder.", "vae.post_quant"))),
    ],
)
def test_switches_choose_what_is_trained(given, tmp_path, stage, learn, fits):
    train_on_data(settings(given, stage, learn=learn, steps=2), tmp_path)
    keys = changed(given, tmp_path)
    assert keys
    assert all(fits(key) for key in keys)
    if "text" in learn:
        assert any(key.startswith("text.") for key in keys)


def test_what_a_stage_cannot_learn_is_refused(given):
    with pytest.raises(ValueError, match="stage image can learn spatial, attention, text: got temporal"):
        settings(given, "image", learn=("temporal",))
    with pytest.raises(ValueError, match="images next to clips belong to stage temporal"):
        settings(given, "image", images=2)
    with pytest.raises(ValueError, match="height and width must be multiples of 2 pixels: got 17 x 17, try 16"):
        train_on_data(settings(given, size=17), Path("nowhere"))
    with pytest.raises(ValueError, match="needs both"):
        train_on_data(Settings(model="pocket"), Path("nowhere"))


def cut_off(monkeypatch, step_of_cut):
    """Let the run die at a step."""
    count = iter(range(1000))

    class CutOffError(Exception):
        pass

    def dying(original):
        def call(*args, **options):
            if next(count) == step_of_cut:
                raise CutOffError
            return original(*args, **options)

        return call

    monkeypatch.setattr(unet_stage, "draw_timesteps", dying(unet_stage.draw_timesteps))
    monkeypatch.setattr(decoder_stage.DecoderLoss, "__call__", dying(decoder_stage.DecoderLoss.__call__))
    return CutOffError


@pytest.fixture(scope="module")
def with_dropout(given, tmp_path_factory):
    """The tiny pipeline with the dropout that networks have by default."""
    folder = tmp_path_factory.mktemp("dropout") / "model"
    shutil.copytree(given / "model", folder)
    for name in ("unet", "vae"):
        path = folder / name / "config.json"
        config = {key: value for key, value in json.loads(path.read_text()).items() if key != "temp_conv_dropout"}
        path.write_text(json.dumps(config))
    assert load_pipeline(folder).unet.config.temp_conv_dropout == 0.1
    return folder


SWITCHES = {
    "temporal, by default": {},
    "temporal, with all": {"checkpointing": True, "snr_gamma": 5.0, "images": 1, "learn": ("temporal", "text"),
                           "ema": 0.0},
    "temporal, with samples": {"show_every": 2, "show_steps": 1, "zero_terminal_snr": True, "accumulate": 2},
    "image": {"stage": "image"},
    "temporal, watched": {"schedule": "cosine_with_restarts", "cycles": 2, "held_out": 1, "validate_every": 5,
                          "keep": 2, "vae_chunk": 3, "crop": "random", "smallest_crop": 0.6, "flip": True},
    "temporal, read ahead": {"workers": 1},
    "temporal, low rank": {"lora": 2, "schedule": "polynomial", "power": 2.0},
    "decoder": {"stage": "vae-decoder"},
    "decoder, with all": {"stage": "vae-decoder", "learn": ("decoder", "temporal"), "balanced": True,
                          "adversarial_after": 3, "checkpointing": True},
}  # fmt: skip


RARE = ("temporal, read ahead", "temporal, with samples", "temporal, low rank")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in RARE else ()) for name in SWITCHES]
)
def test_a_resumed_run_is_the_whole_one_bit_for_bit(given, with_dropout, tmp_path, monkeypatch, name):
    """Cut off in step 6, and gone on from step 4; all that is not named here is as by default, dropout too."""
    few = {"steps": 8, "save_every": 4, "batch": 2, "warmup": 1, "frames": 4, "size": 16, "learning_rate": 1e-2}
    data = (f"{given}/data:0.7", *([f"{given}/more:1:0.3"] if name == "temporal, watched" else []))
    asked = Settings(model=str(with_dropout), data=data, **few | SWITCHES[name])
    train_on_data(asked, tmp_path / "whole")
    with monkeypatch.context() as patch:
        error = cut_off(patch, 6 * (1 + (asked.images > 0)) * asked.accumulate)
        with pytest.raises(error):
            train_on_data(asked, tmp_path / "cut")
    saved = 5 if asked.held_out else 4  # the first validation is the best so far
    assert torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"] == saved
    torch.manual_seed(12345)  # another process
    train_on_data(replace(asked, save_every=3), tmp_path / "cut")
    whole, again = weights(tmp_path / "whole" / "pipeline"), weights(tmp_path / "cut" / "pipeline")
    assert [key for key in whole if not torch.equal(whole[key], again[key])] == []
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("whole", "cut")]
    measured = ("seconds_per_step", "peak_bytes")  # all else is the same, means over steps of the process before too
    lines = [[{k: v for k, v in json.loads(line).items() if k not in measured} for line in log] for log in logs]
    assert lines[0] == lines[1]
    if asked.held_out:
        assert [line["step"] for line in lines[0]] == [5, 8, 8]
        best = [torch.load(tmp_path / run / "best.pt", weights_only=True) for run in ("whole", "cut")]
        assert best[0]["step"] == best[1]["step"] == min(lines[0][:2], key=lambda line: line["validation"])["step"]


def test_a_finished_run_can_be_prolonged_and_not_shortened(given, tmp_path):
    train_on_data(settings(given, steps=2), tmp_path)
    short = weights(tmp_path / "pipeline")
    train_on_data(settings(given, steps=4), tmp_path)
    longer = weights(tmp_path / "pipeline")
    assert any(not torch.equal(short[key], longer[key]) for key in short)
    assert json.loads((tmp_path / "pipeline" / "card.json").read_text())["settings"]["steps"] == 4
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 4]
    with pytest.raises(ValueError, match=r"other settings \(steps 4 -> 3\)"):
        train_on_data(settings(given, steps=3), tmp_path)


@pytest.mark.parametrize(("native", "wanted"), [("bf16", "bf16"), ("fp16", "fp16"), ("bf16-weights", "no")])
def test_the_precision_is_by_default_what_the_machine_has(given, tmp_path, monkeypatch, native, wanted):
    monkeypatch.setattr(full, "default_precisions", lambda device: ("fp32", native))
    assert full._precision(settings(given, precision="auto"), tmp_path, torch.device("cpu")) == wanted
    assert full._precision(settings(given, precision="no"), tmp_path, torch.device("cpu")) == "no"
    (tmp_path / "config.json").write_text(json.dumps({"settings": {"precision": "fp16"}}))
    assert full._precision(settings(given, precision="auto"), tmp_path, torch.device("cpu")) == "fp16"
    assert Settings().precision == "auto"


def test_a_torn_last_line_of_the_log_is_no_obstacle(tmp_path):
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (20, 40, 60)]
    (tmp_path / "log.jsonl").write_text("".join(lines)[:-9])
    RunLog(tmp_path, 100, 60, writes=True, tensorboard=False)
    assert (tmp_path / "log.jsonl").read_text() == "".join(lines[:2])
    RunLog(tmp_path, 100, 20, writes=True, tensorboard=False)
    assert (tmp_path / "log.jsonl").read_text() == lines[0]


def test_the_result_is_the_average_of_the_steps_weights(tmp_path):
    """The decay grows to what was asked, as (1 + n) / (10 + n), so that the first weights are soon forgotten."""
    layer, history = torch.nn.Linear(3, 1, bias=False), []

    def loss(step, generator):
        history.append(layer.weight.detach().clone())
        return (layer(torch.randn(5, 3, generator=generator)) - 1).square().mean(), {}

    fit({"layer": layer}, loss, Recipe(6, 5, 0.1, 0, ema=0.3, precision="no", save_every=6), tmp_path)
    last = torch.load(tmp_path / "state.pt", weights_only=True)["parameters"]["layer.weight"]
    average = history[1]
    for number, weights in enumerate([*history[2:], last], 1):
        decay = min(0.3, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * weights
    assert torch.allclose(layer.weight, average, atol=1e-7)
    assert not torch.allclose(layer.weight, last, atol=1e-4)


def test_runs_of_one_process_may_differ_in_precision(tmp_path):
    for precision in ("bf16", "no", "bf16"):
        layer = torch.nn.Linear(3, 1)
        recipe = Recipe(2, 5, 0.1, 0, ema=0, precision=precision, save_every=2)

        def loss(step, generator, layer=layer):
            return (layer(torch.randn(5, 3, generator=generator)) - 1).square().mean(), {}

        fit({"layer": layer}, loss, recipe, tmp_path / precision)


def test_without_averages_the_last_weights_are_the_result(tmp_path):
    layer = torch.nn.Linear(3, 1, bias=False)

    def loss(step, generator):
        return (layer(torch.randn(5, 3, generator=generator)) - 1).square().mean(), {}

    for steps in (2, 4):
        recipe = Recipe(steps, 5, 0.1, 0, ema=0, precision="no", save_every=2)
        fit({"layer": layer}, loss, recipe, tmp_path / str(steps))
        state = torch.load(tmp_path / str(steps) / "state.pt", weights_only=True)
        assert not state["ema"]["shadow_params"]
        assert torch.equal(layer.weight, state["parameters"]["layer.weight"])


def test_captions_are_left_out_in_their_share_and_always_the_same_ones(given):
    some = [TrainingSample(number, torch.zeros(1, 1, 1, 1), "a dog") for number in range(4000)]
    share = settings(given, caption_drop=0.2)
    drawn = [caption_of(sample, share, "video") for sample in some]
    assert set(drawn) == {"", "a dog"}
    assert drawn.count("") / len(drawn) == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / len(drawn)) ** 0.5)
    assert drawn == [caption_of(sample, share, "video") for sample in some]
    assert drawn != [caption_of(sample, share, "image") for sample in some]
    for drop, wanted in ((0.0, "a dog"), (1.0, "")):
        assert {caption_of(sample, settings(given, caption_drop=drop), "video") for sample in some[:200]} == {wanted}


def test_another_configuration_in_the_same_folder_is_refused(given, trained):
    with pytest.raises(ValueError, match=r"holds a run with other settings \(frames 4 -> 5\)"):
        train_on_data(settings(given, frames=5), trained)


@pytest.mark.parametrize("stage", ["temporal", "vae-decoder"])
def test_checkpointing_changes_memory_and_not_results(given, tmp_path, stage):
    for name, on in (("with", True), ("without", False)):
        train_on_data(settings(given, stage, steps=2, checkpointing=on), tmp_path / name)
    a, b = (weights(tmp_path / name / "pipeline") for name in ("with", "without"))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=1e-5)


def test_accumulated_parts_are_the_whole_batch(given, tmp_path):
    """The decoder's loss draws nothing by step, so that both ways see the same clips and noise."""
    for name, parts in (("whole", 1), ("parts", 2)):
        asked = settings(given, "vae-decoder", steps=3, accumulate=parts, adversarial=0.0, learning_rate=1e-3)
        train_on_data(asked, tmp_path / name)
    a, b = (weights(tmp_path / name / "pipeline") for name in ("whole", "parts"))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=2e-5)
    losses = [json.loads((tmp_path / name / "log.jsonl").read_text())["loss"] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(ValueError, match="divided into accumulate equal parts: got 4 and 0 in 3"):
        settings(given, accumulate=3)


def test_single_frames_beside_clips_are_learned_from(given, tmp_path):
    train_on_data(settings(given, images=2, learn=("temporal", "spatial", "attention"), steps=3), tmp_path)
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert {"video", "image"} <= line.keys()
    assert line["loss"] == pytest.approx((4 * line["video"] + 2 * line["image"]) / 6, rel=1e-3)
    assert any(".resnets." in key for key in changed(given, tmp_path))


def test_latents_train_as_pixels_do(given, tmp_path):
    vae = load_pipeline(given / "model").vae
    cache_latents(given / "data", vae, tmp_path / "latents", size=16, say=lambda line: None)
    held, shards = LatentSet(tmp_path / "latents"), ShardSet(given / "data")
    assert list(held.frames) == list(shards.frames)
    assert held.clip(1, [2, 4, 6]).shape == (4, 3, 8, 8)
    for name, data in (("pixels", given / "data"), ("cached", tmp_path / "latents")):
        train_on_data(settings(given, steps=3, data=(str(data),)), tmp_path / name)
    losses = [
        json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])["loss"]
        for name in ("pixels", "cached")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)  # half precision at rest
    with pytest.raises(ValueError, match="holds latents of 16 pixels, training asks for 32"):
        train_on_data(settings(given, data=(str(tmp_path / "latents"),), size=32), tmp_path / "x")
    with pytest.raises(ValueError, match="the decoder learns from pixels"):
        train_on_data(settings(given, "vae-decoder", data=(str(tmp_path / "latents"),)), tmp_path / "y")
    vae.encoder.conv_in.bias.data += 1
    with pytest.raises(ValueError, match="latents of another VAE"):
        held.check(vae, 16)
    with pytest.raises(ValueError, match="holds latents of another VAE, size or data set"):
        cache_latents(given / "data", vae, tmp_path / "latents", size=16, say=lambda line: None)


def test_zero_terminal_snr_has_no_signal_at_the_end_and_needs_v():
    sampler = training_schedule(scheduler(), zero_terminal_snr=True)
    assert float(sampler.alphas_cumprod[-1]) == 0
    assert sampler.config.rescale_betas_zero_snr
    assert sampler.config.timestep_spacing == "trailing"
    plain = training_schedule(scheduler(), zero_terminal_snr=False)
    assert float(plain.alphas_cumprod[-1]) > 0
    with pytest.raises(ValueError, match="needs a network that predicts v"):
        training_schedule(scheduler("epsilon"), zero_terminal_snr=True)


def test_what_no_loss_is_for_is_refused():
    with pytest.raises(ValueError, match="trained to predict epsilon or v_prediction: got 'sample'"):
        training_schedule(scheduler("sample"), zero_terminal_snr=False)


def test_a_run_with_zero_terminal_snr_samples_from_it(given, tmp_path):
    train_on_data(settings(given, steps=2, zero_terminal_snr=True, snr_gamma=5.0), tmp_path)
    pipeline = load_pipeline(tmp_path / "pipeline")
    assert pipeline.schedule(4).alphas[0] == pytest.approx(0, abs=1e-6)
    assert pipeline("a red star", num_frames=4, num_inference_steps=2, guidance_scale=1.0).frames.shape[1] == 4


def test_snr_weights_are_those_of_the_paper():
    alphas = torch.tensor([0.5, 0.99, 0.0])
    assert snr_weights(alphas, 5.0, "epsilon")[:2].tolist() == pytest.approx([1.0, 5 / 99], rel=1e-4)
    assert snr_weights(alphas, 5.0, "v_prediction").tolist() == pytest.approx([0.5, 5 / 100, 0.0], rel=1e-4)


def decoder_loss(weights, **options):
    torch.manual_seed(0)
    clips, fake = torch.rand(1, 3, 4, 16, 16), torch.rand(4, 3, 16, 16, requires_grad=True)
    judge = Discriminator(8)
    step = options.pop("step", 0)
    total, parts = DecoderLoss(weights, **options)(fake, clips, judge, step, fake)
    return total, parts, judge, fake


def test_the_decoders_loss_is_the_sum_of_its_parts():
    total, parts, _, _ = decoder_loss({"l1": 2.0, "change": 0.5, "adversarial": 0.1})
    want = 2 * parts["l1"] + 0.5 * parts["change"] + 0.1 * parts["fool"] + parts["judge"]
    torch.testing.assert_close(total, want)
    total, parts, _, _ = decoder_loss({"l1": 1.0})
    assert "judge" not in parts
    torch.testing.assert_close(total, parts["l1"])


def test_the_discriminator_sets_in_late():
    _, _, judge, _ = early = decoder_loss({"l1": 1.0, "adversarial": 1.0}, starts=10)
    early[0].backward()
    assert all(p.grad is None or float(p.grad.abs().sum()) == 0 for p in judge.parameters())
    torch.testing.assert_close(early[0], early[1]["l1"])
    late = decoder_loss({"l1": 1.0, "adversarial": 1.0}, starts=10, step=10)
    late[0].backward()
    assert any(float(p.grad.abs().sum()) > 0 for p in late[2].parameters())


def test_a_balanced_adversary_pulls_as_hard_as_the_rest():
    total, parts, _, fake = decoder_loss({"l1": 1.0, "adversarial": 1.0}, balanced=True)
    (of_error,) = torch.autograd.grad(parts["l1"], fake, retain_graph=True)
    (of_all,) = torch.autograd.grad(total, fake, retain_graph=True)
    assert float((of_all - of_error).norm()) == pytest.approx(float(of_error.norm()), rel=0.02)


def test_perception_plugs_in_and_is_refused_without_weights(tmp_path):
    total, parts, _, _ = decoder_loss({"perceptual": 3.0}, perceptual=lambda a, b: (a - b).square().mean())
    torch.testing.assert_close(total, 3 * parts["perceptual"])
    with pytest.raises(ValueError, match="needs a network"):
        DecoderLoss({"perceptual": 1.0})
    with pytest.raises(ValueError, match="is made of adversarial, change, l1, perceptual"):
        DecoderLoss({"ssim": 1.0})


def test_vgg_features_measure_distance(tmp_path):
    import torchvision

    torch.manual_seed(0)
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, tmp_path / "vgg.pth")
    loss = load_vgg(tmp_path / "vgg.pth")
    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    assert float(loss(frames, frames)) == 0
    near, far = loss(frames + 0.05 * torch.randn_like(frames), frames), loss(torch.rand_like(frames), frames)
    assert 0 < float(near) < float(far)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="must hold torchvision's VGG16: it lacks"):
        load_vgg(tmp_path / "bad.pth")


def command(asked, run, *before):
    words = [*before, "-m", "vidrd", "train", "--out", str(run)]
    for key, value in vars(asked).items():
        if value is not None and value is not False and value != ():
            several = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [f"--{key.replace('_', '-')}", *map(str, several)]
    return words


def environment(**more):
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


@pytest.mark.parametrize(("asked_by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_stop_ends_the_step_and_saves_it(tmp_path, asked_by, code):
    def loss(step, generator):
        if step == 2:
            os.kill(os.getpid(), asked_by)
        return layer.weight.square().sum(), {}

    layer = torch.nn.Linear(1, 1, bias=False)
    with pytest.raises(Stopped, match="the same command goes on from there") as caught:
        fit({"layer": layer}, loss, Recipe(8, 1, 0.1, 0, ema=0, precision="no", save_every=8), tmp_path)
    assert caught.value.code == code
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(("asked_by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_sigterm_and_ctrl_c_save_and_the_same_command_goes_on(given, trained, tmp_path, asked_by, code):
    asked = settings(given, steps=4000, save_every=100_000)
    words = command(asked, tmp_path, sys.executable)
    process = subprocess.Popen(words, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)
    log = tmp_path / "log.jsonl"
    for _ in range(4000):
        if (log.exists() and log.read_text()) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(asked_by)
    errors = process.communicate(timeout=200)[1]
    assert process.returncode == code, errors
    assert "the same command goes on from there" in errors
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == json.loads(log.read_text().splitlines()[-1])["step"] >= 20
    assert not (tmp_path / "pipeline").exists()


def linear_run(folder, **changes):
    """A layer that is trained to a constant; the lines of its log, and its gradients of norm 1."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    recipe = Recipe(
        **{"steps": 8, "batch": 1, "learning_rate": 0.1, "warmup": 2, "precision": "no", "ema": 0} | changes
    )
    fit({"layer": layer}, lambda step, generator: (2 * layer.weight.sum(), {}), recipe, folder, log_every=1)
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("schedule", "more", "rates"),
    [
        ("linear", {}, [0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("constant_with_warmup", {}, [0, 0.5, 1, 1, 1, 1, 1, 1]),
        ("constant", {}, [1] * 8),
        ("cosine_with_restarts", {"cycles": 3}, [0, 0.5, 1, 0.5, 1, 0.5, 1, 0.5]),
        ("polynomial", {"power": 2.0}, [0, 0.5, 1, 25 / 36, 16 / 36, 9 / 36, 4 / 36, 1 / 36]),
    ],
)
def test_the_learning_rate_follows_the_schedule_and_the_gradients_norm_is_logged(tmp_path, schedule, more, rates):
    lines = linear_run(tmp_path, schedule=schedule, **more)
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.1 * rate for rate in rates], abs=1e-6)
    assert {line["gradient_norm"] for line in lines} == {2.0}  # before it is clipped


def test_the_last_states_and_the_best_one_are_kept(tmp_path):
    layer = torch.nn.Linear(1, 1, bias=False)
    values = iter([3.0, 1.0, 2.0])

    def loss(step, generator):
        return layer.weight.square().sum(), {}

    validation = Validation(2, lambda averaged: {"validation": next(values)})
    recipe = Recipe(6, 1, 0.1, 0, ema=0, precision="no", save_every=1)
    fit({"layer": layer}, loss, recipe, tmp_path, validation=validation, keep=3)
    assert [path.name for path in sorted((tmp_path / "states").iterdir())] == [f"step-000000{n}.pt" for n in (4, 5, 6)]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (best["step"], best["best"]) == (4, 1.0)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 6


def test_validation_is_at_fixed_timesteps_with_fixed_noise(given, tmp_path):
    train_on_data(settings(given, held_out=2, validate_every=2, steps=4, learning_rate=1e-12), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, second = [{k: v for k, v in line.items() if k != "step"} for line in lines if "validation" in line]
    assert first == second  # whatever was drawn meanwhile
    parts = [value for name, value in first.items() if name != "validation"]
    assert set(first) == {"validation", "validation_125", "validation_375", "validation_625", "validation_875"}
    assert first["validation"] == pytest.approx(sum(parts) / 4, abs=1e-5)


def test_low_rank_updates_change_attentions_alone_and_become_weights(given, tmp_path):
    train_on_data(settings(given, lora=1, steps=3, ema=0.0), tmp_path / "run")
    keys = changed(given, tmp_path / "run")
    assert {key.rpartition(".to_")[0].rpartition(".")[2] for key in keys} <= {"attn1", "attn2", "temp_attn"}
    assert {key.rpartition(".to_")[0].rpartition(".")[2] for key in keys} >= {"attn1", "attn2"}
    before, after = weights(given / "model"), weights(tmp_path / "run" / "pipeline")
    assert before.keys() == after.keys()
    for key in keys:
        assert torch.linalg.matrix_rank((after[key] - before[key]).double(), rtol=1e-3) == 1
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["parameters"]
    assert all(".lora_" in key for key in state)
    assert export(tmp_path / "run", tmp_path / "out") == 3
    again = weights(tmp_path / "out")
    assert [key for key in after if not torch.equal(after[key], again[key])] == []


def test_low_rank_updates_without_peft_or_attentions_are_refused(given, monkeypatch):
    with pytest.raises(ValueError, match="learned by a U-Net's attentions: got stage temporal, learn spatial"):
        settings(given, lora=4, learn=("spatial",))
    assert settings(given, "image", lora=4).learned == ("attention",)
    unet = load_pipeline(given / "model").unet
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"--lora needs peft: pip install 'vidrd-bench\[lora\]'"):
        add_low_rank(unet, 4, ("attention",), 0)


def test_a_pipeline_comes_out_of_a_run_that_goes_on(given, tmp_path, monkeypatch):
    """Cut off in step 5, it exports what a run of 3 steps with the same schedule has averaged."""
    asked = settings(given, schedule="constant", keep=2)
    with monkeypatch.context() as patch:
        error = cut_off(patch, 5)
        with pytest.raises(error):
            train_on_data(asked, tmp_path / "run")
    assert export(tmp_path / "run", tmp_path / "early") == 3
    train_on_data(replace(asked, steps=3), tmp_path / "short")
    early, short = weights(tmp_path / "early"), weights(tmp_path / "short" / "pipeline")
    assert [key for key in short if not torch.equal(early[key], short[key])] == []
    for folder, state, message in (
        (tmp_path / "run", tmp_path / "no.pt", "the run has not saved it yet"),
        (tmp_path, None, "no folder of a training run"),
    ):
        with pytest.raises(ValueError, match=message):
            export(folder, tmp_path / "x", state)


def test_latents_have_one_view(given, tmp_path):
    cache_latents(given / "data", load_pipeline(given / "model").vae, tmp_path, size=16, say=lambda line: None)
    both = (str(given / "data"), str(tmp_path))
    for changes, message in (
        ({"data": both[1:], "crop": "random"}, "crops and flips are of pixels"),
        ({"data": both[1:], "flip": True}, "crops and flips are of pixels"),
        ({"data": both}, "either data sets or caches of latents"),
    ):
        with pytest.raises(ValueError, match=message):
            train_on_data(settings(given, **changes), tmp_path / "run")


SAYS = "import os, signal, sys, time\nrank = os.environ['RANK']\n"


def test_processes_of_a_launch_find_each_other_and_one_that_fails_ends_all(tmp_path):
    code = SAYS + f"open(rf'{tmp_path}/' + rank, 'w').write(os.environ['MASTER_PORT'] + os.environ['WORLD_SIZE'])"
    assert launch.launch(2, ["-c", code], {}) == 0
    said = [(tmp_path / name).read_text() for name in "01"]
    assert said[0] == said[1]
    assert said[0].endswith("2")


def test_a_process_that_fails_ends_the_others(monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.2)
    began = time.monotonic()
    assert launch.launch(2, ["-c", SAYS + "sys.exit(3) if rank == '1' else time.sleep(60)"], {}) == 3
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("asked_by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_launch_that_is_asked_to_stop_waits_and_ends_with_the_code_of_its_processes(tmp_path, asked_by, code):
    script = SAYS + (
        "def stop(number, frame):\n    time.sleep(0.3)\n    sys.exit(128 + number)\n"
        "signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGINT, stop)\n"
        f"open(rf'{tmp_path}/' + rank, 'w').close()\ntime.sleep(60)"
    )
    words = f"from vidrd.training.launch import launch; import sys; sys.exit(launch(2, ['-c', {script!r}], {{}}))"
    process = subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, env=environment())
    for _ in range(1000):
        if len(list(tmp_path.iterdir())) == 2:
            break
        time.sleep(0.05)
    process.send_signal(asked_by)
    assert process.wait(60) == code


@pytest.mark.slow
def test_sigterm_of_several_processes_saves_one_state_and_ends_with_its_code(given, tmp_path):
    words = [*command(settings(given, steps=4000, save_every=100_000), tmp_path, sys.executable), "--processes", "2"]
    process = subprocess.Popen(words, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)
    log = tmp_path / "log.jsonl"
    for _ in range(4000):
        if (log.exists() and log.read_text()) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=200)[1]
    assert process.returncode == 143, errors
    assert errors.count("the same command goes on from there") == 1
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == json.loads(log.read_text().splitlines()[-1])["step"] >= 20


def launch_by_accelerate(asked, run):
    """Train in two processes."""
    words = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
             "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
             "--main_process_port", "0", *command(asked, run)]  # fmt: skip
    done = subprocess.run(
        words, cwd=ROOT, env=environment(ACCELERATE_USE_CPU="true"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


NAMES = ("one", "two")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"images": 2},
        {"images": 2, "learn": ("temporal", "attention", "text"), "shard": True},
        {"stage": "image"},
        {"stage": "image", "checkpointing": True, "shard": True},
        {"stage": "vae-decoder", "adversarial_after": 3},  # a discriminator that rests at first
    ],
)
def test_two_processes_equal_one(given, tmp_path, changes):
    """Whether each holds the networks or a part of them. A step of Adam changes a weight by 1e-3, rounding by 3e-6."""
    asked = settings(given, steps=5, learning_rate=1e-3, caption_drop=0.3, show_every=3, show_steps=2, **changes)
    train_on_data(replace(asked, shard=False), tmp_path / "one")
    launch_by_accelerate(asked, tmp_path / "two")
    assert json.loads((tmp_path / "two" / "pipeline" / "card.json").read_text())["processes"] == 2
    one, two = (weights(tmp_path / name / "pipeline") for name in NAMES)
    for key in one:
        if not key.endswith(".k_proj.bias"):  # no gradient but rounding, which Adam takes for one
            torch.testing.assert_close(one[key], two[key], rtol=0, atol=2e-5, msg=key)
    moments = [torch.load(tmp_path / name / "state.pt", weights_only=True)["optimizer"]["state"] for name in NAMES]
    assert max(float(part["exp_avg"].abs().max()) for part in moments[0].values()) > 1e-3
    torch.testing.assert_close(moments[1], moments[0], rtol=0, atol=3e-5)  # twice the gradients would be twice these
    logs = [json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1]) for name in NAMES]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], abs=1e-5)


def test_processes_that_do_not_find_each_other_stop(given, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were launched, this one finds 1: give each a GPU, or set ACCEL"):
        train_on_data(settings(given), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_divided(given, tmp_path, monkeypatch):
    asked = settings(given, steps=5, learning_rate=1e-3, show_every=3, show_steps=1)
    train_on_data(asked, tmp_path / "whole")

    def cut_off(path, videos):
        raise KeyboardInterrupt

    monkeypatch.setattr("vidrd.training.full.save_strip", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train_on_data(asked, tmp_path / "divided")
    launch_by_accelerate(replace(asked, shard=True), tmp_path / "divided")
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "divided")]
    assert states[0]["step"] == states[1]["step"] == 5
    assert states[0].pop("recipe") == states[1].pop("recipe")
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "vae-decoder"}, "shard divides a U-Net that is not compiled and has .*: got stage vae-decoder"),
        ({"compiled": True}, "compiled True"),
        ({}, r"among several processes, in bf16 or float32: got 1 process\(es\)"),
    ],
)
def test_what_cannot_be_divided_is_refused(given, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        train_on_data(settings(given, shard=True, **changes), tmp_path)
