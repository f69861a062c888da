"""The networks of 2026 against their peers' numbers on recipe weights, and files of all conventions."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from metrics.networks import vision_files as files
from metrics.networks.clip import ClipTower, ImageTower, TextTower
from metrics.networks.features import PreparingNetwork
from metrics.networks.musiq import Musiq
from metrics.networks.vision import VisionFeatures, load_network, load_vjepa, shapes_of, with_tensors
from metrics.networks.vit import Dino, Pooler, VideoMae, VJepa, sine_table
from metrics.videos import vision as inputs
from metrics.weights import WeightsError
from tests.metrics import recipes2026 as recipe
from tests.metrics.recipes import rng, sample


def below(tensors: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def two_blocks(shapes: dict, stem: str = "blocks.") -> dict:
    kept = {name for name in shapes if not name.startswith(stem) or int(name.removeprefix(stem).split(".")[0]) < 2}
    return {name: shape for name, shape in shapes.items() if name in kept}


@torch.inference_mode()
def run(network: nn.Module, batch: torch.Tensor) -> np.ndarray:
    return network(batch).numpy()


def apart(rows: np.ndarray, golden: np.ndarray) -> float:
    """The largest difference between samples of rows and the golden ones, of the largest golden value."""
    sampled = np.stack([sample(row, golden.shape[-1]) for row in rows])
    return float(np.abs(sampled - golden).max() / np.abs(golden).max())


@pytest.fixture(scope="module")
def dino() -> nn.Module:
    return with_tensors(Dino, recipe.weights(recipe.golden("dino_vitb16")["state_dict"]))


@pytest.fixture(scope="module")
def clip_b32() -> dict[str, torch.Tensor]:
    return recipe.weights(recipe.golden("clip_vitb32")["state_dict"], half=True)


def test_the_videos_are_those_of_the_recipe():
    for name, video in recipe.videos().items():
        assert int(video.sum()) == recipe.golden("dino_vitb16")["inputs"][name]["sum"]


@pytest.mark.parametrize(
    ("build", "keys"),
    [
        (Dino, lambda: recipe.golden("dino_vitb16")["state_dict"]),
        (VideoMae, lambda: two_tails(recipe.golden("videomae_g")["state_dict_full"], ("head.",))),
        (VJepa, lambda: recipe.golden("vjepa_h")["encoder_state_dict"]),
        (Musiq, lambda: recipe.keys("musiq")),
        (partial(ClipTower, **files.VICLIP_SIZE), lambda: below(recipe.keys("ViClip"), "vision_encoder.")),
        (partial(TextTower, **files.TEXT_SIZES["viclip"]), lambda: below(recipe.keys("ViClip"), "text_encoder.")),
        (partial(ImageTower, **files.CLIP_SIZES["b32"]), lambda: below(recipe.keys_of_clip(), "visual.")),
        (partial(ImageTower, **files.CLIP_SIZES["l14"]), lambda: below(recipe.keys("ViT-L-14"), "visual.")),
    ],
)
def test_a_network_has_exactly_the_published_tensors(build, keys):
    assert shapes_of(build) == {name: tuple(shape) for name, shape in keys().items()}


def two_tails(shapes: dict, left_out: tuple[str, ...]) -> dict:
    return {name: shape for name, shape in shapes.items() if not name.startswith(left_out)}


@pytest.mark.parametrize(("video", "frame"), [("noise8", 0), ("cut16", 7)])
def test_dino_reads_whole_frames_as_vbench_does(dino, video, frame):
    frames = recipe.videos()[video][[frame]]
    golden = recipe.arrays("dino_vitb16")[f"vbench/float64/{video}"][[frame]]
    assert apart(run(dino, inputs.dino_input(frames)), golden) < 1e-4


def test_dino_in_a_square_keeps_its_table_and_elsewhere_the_tenth_moves_it(dino):
    assert dino._positions(14, 14, square=True) is dino.pos_embed
    with torch.inference_mode():
        other = dino._positions(14, 14, square=False)
    assert 0.01 < (other - dino.pos_embed).abs().max() < 1


@pytest.mark.slow  # 150 million weights; what transformers computes is the oracle of small towers by default
def test_clip_sees_images_and_texts_as_openai_does(clip_b32):
    image = with_tensors(partial(ImageTower, **files.CLIP_SIZES["b32"]), below(clip_b32, "visual."))
    text_names = shapes_of(partial(TextTower, **files.TEXT_SIZES["b32"]))
    text = with_tensors(partial(TextTower, **files.TEXT_SIZES["b32"]), {name: clip_b32[name] for name in text_names})
    goldens = recipe.arrays("clip_vitb32")
    for video, frames in recipe.videos().items():
        rows = run(image, inputs.clip_input(frames[[1, 5]]))
        assert apart(rows, goldens[f"image/float64/{video}"][[1, 5]]) < 1e-4, video
    ids = torch.zeros(4, 77, dtype=torch.long)
    for row, known in zip(ids, recipe.golden("clip_vitb32")["token_ids"], strict=True):
        row[: len(known)] = torch.tensor(known)
    assert apart(run(text, ids), goldens["text/float64"]) < 1e-4


def test_musiq_scores_noise_and_a_large_frame():
    network = with_tensors(Musiq, recipe.weights(recipe.keys("musiq"), tables=recipe.MUSIQ_TABLES))
    golden = recipe.golden("musiq")["results"]["float64"]["frame_scores"]
    noise = recipe.videos()["noise8"][:3]
    np.testing.assert_allclose(run(network, inputs.imaging_input(noise)), golden[:3], atol=1e-4)
    large = np.stack([recipe.textured(0, 600, 900), recipe.gradient(1, 600, 900)])
    np.testing.assert_allclose(run(network, inputs.imaging_input(large)), golden[4:], atol=1e-4)


def test_video_mae_has_cd_fvds_positions_and_features():
    known = recipe.golden("videomae_g")
    np.testing.assert_allclose(sample(sine_table(2048, 1408).numpy(), 16), known["pos_embed"]["SAMPLE_16"], atol=1e-7)
    shapes = two_tails(two_blocks(known["state_dict_full"]), ("head.",))
    network = with_tensors(partial(VideoMae, depth=2), recipe.weights(shapes))
    goldens = recipe.arrays("videomae_g")
    noise = rng("m26/mae/noise").integers(0, 256, size=(16, 96, 128, 3), dtype=np.uint8)
    short = run(network, inputs.video_mae_input(noise[:8]))[0]
    np.testing.assert_allclose(short, goldens["feat/float64/noise_first8frames"], atol=1e-4)
    whole = inputs.video_mae_input(recipe.cut(16, 64, 64))
    np.testing.assert_allclose(sample(whole.numpy(), 400), goldens["pre/cut"], atol=1e-6)


def test_v_jepa_pools_as_the_package_and_as_the_authors():
    known, goldens = recipe.golden("vjepa_h"), recipe.arrays("vjepa_h")
    tensors = recipe.weights(two_blocks(known["encoder_state_dict"])) | {"pos_embed": recipe.sines_3d()}
    encoder = with_tensors(partial(VJepa, depth=2), tensors)
    probe = below(recipe.weights(known["classifier_state_dict"]), "pooler.")
    clip = inputs.vjepa_input(recipe.cut(16, 128, 160))
    with torch.inference_mode():
        tokens = encoder(clip)
    np.testing.assert_allclose(tokens.mean(dim=1)[0], goldens["mean/float64/cut_160x128"], atol=1e-4)
    for name, project in (("pip", True), ("facebook", False)):
        pooled = run(with_tensors(partial(Pooler, project=project), probe), tokens)[0]
        np.testing.assert_allclose(pooled, goldens[f"pooler_{name}/float64/cut_160x128"], atol=3e-4)


def test_viclip_reads_eight_frames_and_thirty_two_tokens():
    stem = "vision_encoder.transformer.resblocks."
    shapes = two_blocks(recipe.keys("ViClip"), stem)
    tensors = recipe.weights(shapes, tables=(*recipe.TABLES, "temporal_positional_embedding"))
    size = files.VICLIP_SIZE | {"layers": 2}
    clips = with_tensors(partial(ClipTower, **size), below(tensors, "vision_encoder."))
    text = with_tensors(partial(TextTower, **files.TEXT_SIZES["viclip"]), below(tensors, "text_encoder."))
    goldens = recipe.arrays("viclip")
    rows = run(clips, inputs.viclip_input(recipe.videos()["noise8"][:5]))
    assert apart(rows, goldens["video/float64/noise5"][None]) < 1e-4
    ids = torch.zeros(1, 32, dtype=torch.long)
    known = recipe.golden("viclip")["token_ids"][1]
    ids[0, : len(known)] = torch.tensor(known)
    written = run(text, ids)
    assert apart(written, goldens["text/float64/noise5"][None]) < 1e-4
    cosine = float((rows @ written.T)[0, 0] / np.linalg.norm(rows) / np.linalg.norm(written))
    assert cosine == pytest.approx(recipe.golden("viclip")["results"]["float64"]["per_video"]["noise5"], abs=1e-6)


@pytest.mark.slow
def test_every_frame_of_every_golden_video(dino, clip_b32):
    large = recipe.weights(recipe.golden("clip_vitl14")["visual_state_dict"], half=True)
    networks = {
        "dino_vitb16": (dino, inputs.dino_input, "vbench"),
        "clip_vitb32": (
            with_tensors(partial(ImageTower, **files.CLIP_SIZES["b32"]), below(clip_b32, "visual.")),
            inputs.clip_input,
            "image",
        ),
        "clip_vitl14": (
            with_tensors(partial(ImageTower, **files.CLIP_SIZES["l14"]), below(large, "visual.")),
            inputs.clip_input,
            "image",
        ),
    }
    clips = recipe.videos()
    clips |= {"noise3": clips["noise8"][:3], "gradient2": clips["gradient12"][:2]}
    for golden, (network, to_input, kind) in networks.items():
        for name in recipe.golden(golden)["inputs"]:
            rows = run(network, to_input(clips[name]))
            assert apart(rows, recipe.arrays(golden)[f"{kind}/float64/{name}"]) < 1e-4, (golden, name)


# Files: small networks, the conventions of the large ones.

SMALL = {"width": 64, "layers": 2, "patch": 32, "features": 16}
TINY = partial(Dino, width=48, depth=2, heads=3)


def random_tensors(build) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes_of(build).items()}


def theirs(tensors: dict, naming) -> dict[str, torch.Tensor]:
    """A file in another convention: joined matrices in parts, transposed ones turned."""
    out = {}
    for name, tensor in tensors.items():
        names = naming.theirs(name)
        parts = tensor.chunk(len(names))
        out |= {n: (p.T if name in naming.transposed else p).contiguous() for n, p in zip(names, parts, strict=True)}
    return out


@pytest.mark.parametrize("naming", range(3))
def test_dino_is_the_same_from_every_convention(tmp_path, naming):
    tensors = random_tensors(TINY)
    folder = tmp_path / "dino-vitb16"
    folder.mkdir()
    save_file(theirs(tensors, files.DINO.namings[naming]), folder / "model.safetensors")
    _, state = load_network(tmp_path, files.DINO, TINY)
    assert state.whose == files.DINO.namings[naming].whose
    assert state.identity == "unrecognised"
    assert all(torch.equal(state.tensors[name], tensor) for name, tensor in tensors.items())


def test_a_folder_of_the_hubs_cache_is_read(tmp_path):
    snapshot = tmp_path / "models--facebook--dino-vitb16" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save_file(theirs(random_tensors(TINY), files.DINO.namings[1]), snapshot / "model.safetensors")
    assert load_network(tmp_path, files.DINO, TINY)[1].whose == "transformers 4"


class WholeClip(nn.Module):
    """Both towers under one roof, as OpenAI's program holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = ImageTower(**SMALL)
        self.input_resolution = torch.tensor(224)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.visual(frames)


def test_clip_is_read_from_a_program_that_is_not_run(tmp_path):
    torch.manual_seed(0)
    whole = WholeClip().eval()
    for parameter in whole.parameters():
        nn.init.normal_(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, which would rather have other programs
        torch.jit.trace(whole, torch.zeros(1, 3, 224, 224), check_trace=False).save(tmp_path / "ViT-B-32.pt")
    _, state = load_network(tmp_path, files.CLIP_IMAGE["b32"], partial(ImageTower, **SMALL))
    assert all(torch.equal(state.tensors[name], tensor) for name, tensor in whole.visual.state_dict().items())


def test_transformers_computes_what_its_folder_computes_here(tmp_path):
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256}
    text = sizes | {"vocab_size": 49408, "eos_token_id": 49407, "hidden_act": "quick_gelu"}
    vision = sizes | {"image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu"}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    reference = CLIPModel(config).eval()
    reference.save_pretrained(tmp_path / "clip-vit-base-patch32")
    image, state = load_network(tmp_path, files.CLIP_IMAGE["b32"], partial(ImageTower, **SMALL))
    assert state.whose == "transformers"
    tower = partial(TextTower, width=64, layers=2, features=16)
    texts, _ = load_network(tmp_path / "clip-vit-base-patch32", files.CLIP_TEXT["b32"], tower)
    frames = inputs.clip_input(recipe.videos()["cut16"][6:9])
    ids = torch.zeros(2, 77, dtype=torch.long)
    ids[0, :4] = torch.tensor([49406, 320, 2368, 49407])
    ids[1, :2] = torch.tensor([49406, 49407])
    with torch.inference_mode():
        expected = reference.get_image_features(pixel_values=frames).pooler_output
        known = reference.get_text_features(input_ids=ids).pooler_output
    np.testing.assert_allclose(run(image, frames), expected, atol=1e-5)
    np.testing.assert_allclose(run(texts, ids), known, atol=1e-5)


def test_prefixes_and_half_precision_are_read_through(tmp_path):
    build = partial(VJepa, width=48, depth=1, heads=3, hidden=96)
    tensors = random_tensors(build)
    file = {f"module.backbone.{name}": tensor.half() for name, tensor in tensors.items()}
    other = {name: tensor + 1 for name, tensor in file.items()}
    torch.save({"encoder": other, "target_encoder": file, "epoch": 300}, tmp_path / "vith16.pth.tar")
    _, state = load_network(tmp_path, files.VJEPA, build)
    assert all(torch.equal(state.tensors[name], tensor.half().float()) for name, tensor in tensors.items())


def test_old_archives_may_be_nested(tmp_path):
    tensors = random_tensors(TINY)
    torch.save(
        {"model": tensors, "epoch": 3}, tmp_path / "dino_vitbase16_pretrain.pth", _use_new_zipfile_serialization=False
    )
    _, state = load_network(tmp_path, files.DINO, TINY)
    assert state.tensors.keys() == tensors.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.mlp.fc2.bias"), "lacks blocks.1.mlp.fc2.bias"),
        (lambda t: t.update({"blocks.2.norm1.weight": torch.ones(48)}), "has the unknown blocks.2.norm1.weight"),
        (lambda t: t.update({"norm.weight": torch.ones(47)}), r"norm.weight is \(47,\), DINO ViT-B/16 wants \(48,\)"),
        (
            lambda t: t.update({"norm.weight": torch.full((48,), torch.nan)}),
            "norm.weight has values that are not finite",
        ),
        (lambda t: t.update({"norm.weight": torch.ones(48, dtype=torch.int64)}), "norm.weight is torch.int64"),
        (lambda t: [t.pop(name) for name in list(t)[1:]], "lacks pos_embed and 28 more"),
    ],
)
def test_a_network_is_never_partly_loaded(tmp_path, change, message):
    tensors = random_tensors(TINY)
    change(tensors)
    save_file(tensors, tmp_path / "dino_vitb16.safetensors")
    with pytest.raises(WeightsError, match=message) as error:
        load_network(tmp_path, files.DINO, TINY)
    assert "\n" not in str(error.value)


def test_other_networks_are_refused_by_what_they_are(tmp_path):
    mlp = {f"layers.{i}.weight": torch.ones(4, 4) for i in (0, 2, 4)}
    save_file(mlp, tmp_path / "head.safetensors")
    with pytest.raises(WeightsError, match="improved predictor, an MLP, scores on another scale"):
        load_network(tmp_path / "head.safetensors", files.AESTHETIC, partial(nn.Linear, 768, 1))
    ava = {"head.0.weight": torch.ones(10, 384), "conv_root.weight": torch.ones(64, 3, 7, 7)}
    save_file(ava, tmp_path / "musiq.safetensors")
    with pytest.raises(WeightsError, match="KonIQ's and AVA's weights score on other scales"):
        load_network(tmp_path / "musiq.safetensors", files.MUSIQ, Musiq)
    with pytest.raises(WeightsError, match=r"the folder has no dino_vitbase16_pretrain\.pth or"):
        load_network(tmp_path, files.DINO, Dino)


def test_a_probe_that_is_missing_is_an_error_not_a_random_pooler(tmp_path):
    build = partial(VJepa, depth=0)
    save_file(random_tensors(build), tmp_path / "vith16.safetensors")
    with pytest.raises(WeightsError, match=r"the folder has no ssv2-probe\.pth\.tar"):
        load_vjepa(tmp_path, tmp_path, depth=0)
    assert load_vjepa(tmp_path, None, depth=0).name.startswith("vjepa-h-mean:")


def test_a_network_of_frames_is_one_of_clips_too():
    network = with_tensors(TINY, random_tensors(TINY))
    features = VisionFeatures("tiny:0", network, inputs.dino_input, "0" * 64, "unrecognised", frames=1, batch=3)
    assert isinstance(features, PreparingNetwork)
    video = recipe.videos()["noise8"]
    rows = features.rows(video)
    assert rows.shape == (8, 48)
    np.testing.assert_allclose(features.embed(video[:, None]).embedding, rows, atol=1e-5)
    with pytest.raises(ValueError, match="tiny:0 reads clips of 1 frames: got 2"):
        features.embed(video[None, :2])
