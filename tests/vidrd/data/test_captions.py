"""Captions: asked of key frames, fused in order, filtered; servers and models are real ones, small or local."""

import base64
import contextlib
import email.utils
import http.client
import io
import json
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.vidrd.data.clips import scenes
from vidrd.data import captioners
from vidrd.data.captioners import CAPTIONERS, Blip2, ChatModel, Endpoint, new_captioner
from vidrd.data.captions import (
    TEMPLATES,
    Captioner,
    CaptionSettings,
    Prompts,
    Template,
    caption_stage,
    caption_together,
    complaint,
    describe_all,
    filter_captions,
    mentions,
    plain_label,
    tidy,
)
from vidrd.data.record import Drop, Pixels, Record
from vidrd.pocket.world import render


class Scripted:
    """Answers as scripted, and records the questions."""

    name = "scripted"

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def ask(self, frames, prompt):
        self.asked.append((len(frames), prompt))
        return self.answers.pop(0)


def described(model, images, **asking):
    """The caption of one clip, and the answers for its frames."""
    return describe_all(model, [(images, ())], CaptionSettings(**asking))[0]


def record(**changes):
    parts = np.concatenate([render([scene], 8, size=64)[0] for scene in scenes(9)[::4]])
    parts[8:16] = 255 - parts[8:16]
    return Record("k", "u", "s", "l", labels=("HighJump",), pixels=Pixels.of_rgb(parts, 8), **changes)


def test_frames_are_asked_one_by_one_with_the_class_as_a_doubtful_hint_and_then_fused():
    model = Scripted("A runner on a track.", "A runner leaps.", "A runner on a mat.", "A runner leaps over a bar.")
    captioned = caption_stage(model, CaptionSettings(frames=3), record())
    assert [count for count, _ in model.asked] == [1, 1, 1, 0]
    assert all("'high jump'" in prompt and "may be wrong" in prompt for _, prompt in model.asked)
    fuse = model.asked[-1][1]
    assert fuse.index("on a track") < fuse.index("A runner leaps.") < fuse.index("on a mat")
    assert captioned.caption_by == "scripted"
    assert captioned.captions[0].endswith("A runner leaps over a bar.")
    assert len(captioned.facts["key_frames"]) == 3


def test_the_class_survives_or_is_put_back():
    kept = caption_stage(Scripted("A man jumping.", "A man jumping.", "A man jumping."), CaptionSettings(), record())
    assert kept.captions == ("A man jumping.",)
    lost = caption_stage(Scripted("A red wall.", "A red wall.", "A red wall."), CaptionSettings(), record())
    assert "high jump" in lost.captions[0].lower()
    assert lost.captions[0].endswith("A red wall.")


def test_equal_answers_need_no_fusing_and_a_refusal_falls_back():
    image = Image.new("RGB", (8, 8))
    model = Scripted("Same thing here.", "Same thing here.")
    assert described(model, [image, image])[0] == "Same thing here."
    model = Scripted("First view of it.", "Second view of it.", "Third view of it.", "As an AI I cannot do this.")
    assert described(model, [image] * 3)[0] == "Second view of it."


class Batched(Scripted):
    """Answers several questions at once, each by what it was asked about."""

    def ask_together(self, questions):
        self.asked.append([prompt for _, prompt in questions])
        return [f"Answer {number} to {len(frames)} frames here." for number, (frames, _) in enumerate(questions)]


def test_clips_are_asked_about_together_and_come_back_in_order():
    model = Batched()
    black = Record("dark", "u", "s", "l", pixels=Pixels.of_rgb(np.zeros((8, 64, 64, 3), np.uint8), 8))
    some = [replace(record(), key="a"), black, record(captions=("a man jumps over a bar",)), replace(record(), key="b")]
    outcomes = caption_together(model, CaptionSettings(frames=3, batch=4, keep_label=False), some)
    assert [outcome.key for outcome in outcomes] == ["a", "dark", "k", "b"]
    assert outcomes[1].reason == "shows nothing"
    assert outcomes[2] is some[2]
    assert [len(prompts) for prompts in model.asked] == [6, 2]  # all frames at once, then both clips
    assert outcomes[0].facts["frame_captions"] == [f"Answer {n} to 1 frames here." for n in (0, 1, 2)]
    assert outcomes[3].facts["frame_captions"] == [f"Answer {n} to 1 frames here." for n in (3, 4, 5)]
    assert [outcomes[n].captions for n in (0, 3)] == [(f"Answer {n} to 0 frames here.",) for n in (0, 1)]
    assert "Answer 3 to" in model.asked[1][1]
    alone = Scripted("A runner.", "A runner.", "A runner.")
    assert caption_stage(alone, CaptionSettings(frames=3), record()).captions  # by default frame by frame


def test_prompts_come_from_a_file(tmp_path):
    (tmp_path / "p.toml").write_text(
        'frame = "What {is} this?"\nhint = " Not {label}?"\nfuse = "Join: {sentences} {hint}"'
    )
    prompts = Prompts.read(tmp_path / "p.toml")
    assert prompts.of_frame("a b") == "What {is} this? Not a b?"
    assert prompts.of_frame("") == "What {is} this?"
    assert prompts.of_clip(["X {hint}.", "Y."], "c") == f"Join: 1. X {{hint}}.\n2. Y. {Prompts().fuse_hint}".replace(
        "{label}", "c"
    )
    model = Scripted("A jump.", "A jump.", "A jump.")
    own = caption_stage(model, CaptionSettings(prompts=prompts), record())
    assert model.asked[0][1] == "What {is} this? Not high jump?"
    usual = caption_stage(Scripted("A jump.", "A jump.", "A jump."), CaptionSettings(), record())
    assert own.facts["prompts"] != usual.facts["prompts"]
    for text, message in (
        ("x = 1", "prompts are texts named frame, hint, fuse, fuse_hint: got x"),
        ("frame = 3", "got frame"),
        ('fuse = "Join"', "must hold {sentences}"),
        ('frame = " "', "must say something"),
        ("frame = ", r"p\.toml: "),
    ):
        (tmp_path / "p.toml").write_text(text)
        with pytest.raises(ValueError, match=message):
            Prompts.read(tmp_path / "p.toml")


def test_a_template_speaks_in_its_own_name_where_the_model_says_nothing():
    captioned = caption_stage(Scripted("", "", ""), CaptionSettings(), record())
    assert captioned.caption_by == "template"
    assert "high jump" in captioned.captions[0].lower()
    unlabeled = replace(record(), labels=())
    assert caption_stage(Scripted("", "", ""), CaptionSettings(), unlabeled).captions == ()


def test_no_template_says_how_it_was_filmed():
    assert not any("camera" in template or "filmed" in template for template in TEMPLATES)


def test_a_caption_of_megabytes_is_judged_by_its_length_at_once():
    began = time.perf_counter()
    for part in ("a.", "a@", "<", "word ", "http"):
        assert complaint(part * 1_000_000) == "too long"
        tidy(f"{part * 1_000_000}")
    for blank in (".", " ", "'", "_ "):
        tidy(blank * (19_999 // len(blank)) + "b")
    assert time.perf_counter() - began < 2


def test_captions_that_came_are_kept_unless_all_are_asked_for():
    given = record(captions=("a man jumps over a bar",))
    assert caption_stage(Scripted(), CaptionSettings(), given) is given
    again = caption_stage(Scripted("He jumps.", "He jumps.", "He jumps."), CaptionSettings(when="always"), given)
    assert again.captions == ("He jumps.",)


def test_a_black_clip_is_dropped_unasked():
    black = Record("k", "u", "s", "l", pixels=Pixels.of_rgb(np.zeros((8, 64, 64, 3), np.uint8), 8))
    assert caption_stage(Scripted(), CaptionSettings(), black).reason == "shows nothing"


def test_templates_need_no_model_and_no_pixels():
    bare = Record("k", "u", "s", "l", labels=("Archery", "outdoor_sport"))
    captioned = caption_stage(Template(), CaptionSettings(), bare)
    assert "archery and outdoor sport" in captioned.captions[0].lower()
    assert captioned == caption_stage(Template(), CaptionSettings(), bare)
    assert len({Template().caption(Record(str(i), "", "", "", labels=("x",))) for i in range(50)}) > 2
    assert caption_stage(Template(), CaptionSettings(), Record("k", "u", "s", "l")).reason == "no caption"
    assert isinstance(Scripted(), Captioner)
    assert not any(complaint(template.format(label="surfing")) for template in TEMPLATES)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"), ("petting cat (indoor)", "petting cat (indoor)"),
        ("adult_female_singing", "adult female singing"), ("YoYo", "yo yo"), ("TVShow", "tv show"),
        ("3DPainting", "3d painting"),
    ],
)  # fmt: skip
def test_class_names_become_words(label, words):
    assert plain_label(label) == words


def test_a_class_is_mentioned_whatever_its_ending():
    assert mentions("A woman applies makeup.", ["ApplyEyeMakeup"])
    assert mentions("Two men swimming", ["Swim"])
    assert mentions("He skis downhill", ["Skiing"])
    assert not mentions("A red wall", ["HighJump"])


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("A dog runs along the beach", ""),
        ("A dog", "too short"),
        ("word " * 61, "too long"),
        ("As an AI language model I see things", "refusal"),
        ("I'm sorry, I cannot see it", "refusal"),
        ("Buy at www.shop.example now please", "address or markup"),
        ("<b>A dog</b> runs on the beach", "address or markup"),
        ("一只狗 在 沙滩 上 跑 着", "not in Latin letters"),
        ("a dog a dog a dog a dog a dog", "repeats itself"),
        ("A dog runs with a watermark", "blocked word"),
        ("Un café très élégant à Paris", ""),
    ],
)
def test_filters_name_the_fault(caption, fault):
    assert complaint(caption, blocked=("watermark",)) == fault


def test_good_captions_stay_once_and_records_without_any_go():
    some = Record("k", "u", "s", "l", captions=("too short", "A dog runs on the beach", "A dog runs on the beach"))
    assert filter_captions(some).captions == ("A dog runs on the beach",)
    gone = filter_captions(Record("k", "u", "s", "l", captions=("too short",)))
    assert isinstance(gone, Drop)
    assert gone.reason == "caption too short"


@pytest.mark.parametrize(
    ("answer", "tidied"),
    [
        ('"The image shows a dog\n running."', "A dog running."),
        ("Sure! Here is it: nothing", "Here is it: nothing"),
        ("Here is the sentence: A cat sleeps.", "A cat sleeps."),
        ("this video clip is fine", "This video clip is fine"),
        ("<think>A dog?\nOr a cat.</think>\n\nA dog runs.", "A dog runs."),
        ("So it is a dog.</think>A dog runs.", "A dog runs."),
        ("<think>I have no room left to", ""),
        ("A dog runs.<think>Was it one?</think>", "A dog runs."),
        ("<THINKING>A dog?</Thinking> [THINK]or[/THINK] ◁think▷a cat◁/think▷ A cat sleeps.", "A cat sleeps."),
        ("<think>" * 3000 + "</think>A dog runs.", "A dog runs."),
        ("<answer>A <b>dog</b>, which runs&nbsp;&amp; barks.</answer><|im_end|>", "A dog, which runs & barks."),
        ("<p class='x'>A dog runs.<br/>It barks.</p>", "A dog runs. It barks."),
        ("```text\n**A dog** runs on _the_ beach.\n```", "A dog runs on the beach."),
        ("<html><body>502 Bad Gateway by nginx</body></html>", "<html><body>502 Bad Gateway by nginx</body></html>"),
        ("None of them barks .", "None of them barks."),
        ("n.a.", ""),
        *((nothing, "") for nothing in ("null", " None.", '"N/A"', "...", "{}", "```\n```", "<think>a</think> null")),
    ],
)
def test_chatter_around_an_answer_goes(answer, tidied):
    assert tidy(answer) == tidied


class Server:
    """A real HTTP server with OpenAI's interface, which fails on demand."""

    def __init__(self):
        outer = self
        self.requests, self.failures = [], []
        self.headers, self.barrier = {}, None

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), body))
                code = outer.failures.pop(0) if outer.failures else 200
                if outer.barrier:
                    outer.barrier.wait()
                if code == 200:
                    parts = body["messages"][0]["content"]
                    images = [p for p in parts if p["type"] == "image_url"]
                    text = f"{len(images)} pictures seen clearly"
                    data = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
                else:
                    data = b'{"odd": true}' if code == 299 else b"no"
                self.send_response(200 if code in (298, 299) else code)
                self.send_header("Content-Length", str(len(data) + (100 if code == 298 else 0)))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_an_openai_compatible_server_is_asked_with_pictures(server):
    model = Endpoint(server.url, "minigpt4", key="secret", longer_side=32)
    frames = [Image.fromarray(render(scenes(1), 1, size=64)[0, 0])] * 2
    assert model.ask(frames, "What?") == "2 pictures seen clearly"
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body["model"] == "minigpt4"
    assert body["temperature"] == 0
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    assert max(sent.size) == 32
    assert body["messages"][0]["content"][-1] == {"type": "text", "text": "What?"}


def test_a_whole_record_goes_through_the_server(server):
    captioned = caption_stage(Endpoint(server.url, "m"), CaptionSettings(), record())
    assert "1 pictures seen clearly" in captioned.captions[0]
    assert captioned.caption_by == "http:m"


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(server):
    model = Endpoint(server.url, "m", wait=0.01, tries=3)
    server.failures = [503, 429]
    assert model.ask([], "x") == "0 pictures seen clearly"
    assert len(server.requests) == 3
    server.failures = [401, 401]
    with pytest.raises(ValueError, match=r"gives no caption \(401: no\)"):
        model.ask([], "x")
    assert len(server.requests) == 4
    server.failures = [500] * 3
    with pytest.raises(ValueError, match="500"):
        model.ask([], "x")
    server.failures = [299]
    with pytest.raises(ValueError, match="does not answer as an OpenAI-compatible server"):
        model.ask([], "x")


@pytest.mark.parametrize(
    ("said", "waited"), [("30", 30), ("0", 0.5), ("900", 60), (30, 30), ("soon", 0.5), ("", 0.5), ("²", 0.5)]
)
def test_a_busy_server_says_how_long_to_wait(server, monkeypatch, said, waited):
    """In seconds or by a date, and no longer than it may take to answer."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.failures = [429]
    server.headers = {"Retry-After": said if isinstance(said, str) else email.utils.formatdate(time.time() + said)}
    assert Endpoint(server.url, "m", wait=0.5, timeout=60).ask([], "x") == "0 pictures seen clearly"
    assert slept == [pytest.approx(waited, abs=2 if said == 30 else 0)]


def test_a_pause_is_kept_once(server, monkeypatch):
    """What a server asks for ends with its answer, whatever comes next."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.failures, server.headers = [429, 298], {"Retry-After": "30"}
    assert Endpoint(server.url, "m", wait=0.5, timeout=60).ask([], "x") == "0 pictures seen clearly"
    assert slept == [30, 1]


@pytest.mark.parametrize("code", [400, 413, 422])
def test_refused_frames_cost_their_clip_only(server, code):
    server.failures = [code] * 20
    model = Endpoint(server.url, "m", wait=0.01)
    for _ in range(20):  # as often as it likes: it does answer
        drop = caption_stage(model, CaptionSettings(frames=1), record())
        assert drop.reason == "captioner failed"
        assert f"{code}: no" in drop.detail
    assert len(server.requests) == 20
    assert caption_stage(model, CaptionSettings(frames=1), record()).captions


@pytest.mark.parametrize("code", [503, 299, 298])
def test_a_server_that_fails_again_and_again_ends_the_work(server, code):
    """Busy, not an OpenAI-compatible one, and one whose answers break off."""
    server.failures = [code] * 100
    model = Endpoint(server.url, "m", wait=0.001, tries=2)
    for _ in range(7):
        assert caption_stage(model, CaptionSettings(frames=1), record()).reason == "captioner failed"
    with pytest.raises(ValueError, match=r"has given no caption 8 times in a row .*run again"):
        caption_stage(model, CaptionSettings(frames=1), record())


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_never_carries_the_key(server, code):
    other = Server()
    server.failures, server.headers = [code], {"Location": f"{other.url}/chat/completions"}
    with pytest.raises(ValueError, match=f"gives no caption \\({code}"):
        Endpoint(server.url, "m", key="secret", wait=0.01).ask([], "x")
    assert not other.requests
    other.http.shutdown()
    other.http.server_close()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf a chu", "503"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60_000, "does not answer as"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe{}", "does not answer as"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "IncompleteRead(0 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "IncompleteRead(0 bytes"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ""),
        (b"", ""),
    ],
)
def test_damaged_answers_cost_their_clip_only(reply, reason):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(reply)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        model = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "m", tries=1)
        drop = caption_stage(model, CaptionSettings(frames=1), record())
        thread.join()
    assert drop.reason == "captioner failed"
    assert reason in drop.detail


def test_an_answer_that_keeps_coming_has_an_end_too():
    """Some proxies send blanks while they wait; each comes in time, the answer never."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not stop.wait(0.02):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        model = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "m", tries=1, timeout=0.3)
        drop = caption_stage(model, CaptionSettings(frames=1), record())
        stop.set()
        thread.join()
    assert "not finished its answer after 0.3 seconds" in drop.detail


def test_a_whole_answer_counts_whenever_its_last_part_came(monkeypatch):
    """The clock is looked at before a read, and an answer that is there needs no other."""
    now = [0.0]
    monkeypatch.setattr(captioners, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(io.BytesIO):
        def read1(self, size=-1):
            now[0] += 3
            return super().read1(size)

    sent = Slow(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
    reply = http.client.HTTPResponse(SimpleNamespace(makefile=lambda mode: sent))
    reply.begin()
    assert captioners._body(reply, 2) == b"done"


def test_questions_can_be_asked_at_the_same_time(server):
    model = Endpoint(server.url, "m", wait=0.01)
    images = [Image.fromarray(frame) for frame in render(scenes(1), 4, size=64)[0]]
    server.barrier = threading.Barrier(4, timeout=20)  # nobody is answered before four have asked
    assert len(described(model, images, parallel=4)[1]) == 4


def test_no_server_is_one_line():
    with pytest.raises(ValueError, match="gives no caption"):
        Endpoint("http://127.0.0.1:9", "m", tries=1).ask([], "x")
    with pytest.raises(ValueError, match="begins with http"):
        Endpoint("localhost", "m")


def test_captioners_are_named_and_their_models_must_be_here(tmp_path):
    assert isinstance(new_captioner("template"), Template)
    with pytest.raises(ValueError, match="is one of template, blip2"):
        new_captioner("gpt")
    with pytest.raises(ValueError, match="needs a model"):
        new_captioner("chat")
    with pytest.raises(ValueError, match="is not here"):
        new_captioner("blip2", str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["blip2", "chat"])
def test_no_hub_is_asked_for_a_model(kind, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing may look a model up")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ValueError, match="model org/name is not here"):
        new_captioner(kind, "org/name")


def test_a_package_that_a_model_needs_is_named(tmp_path, monkeypatch):
    def load(model, **options):
        raise ImportError("SmolVLM requires num2words:\n pip install num2words")

    monkeypatch.setitem(CAPTIONERS, "chat", load)
    with pytest.raises(ValueError, match="needs a package that is not installed: SmolVLM requires num2words"):
        new_captioner("chat", str(tmp_path))


WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "Question", "Answer", ":", "describe", "frame", "."]


def word_tokenizer(folder, extra=()):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*WORDS, *extra])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>", *extra],
    )  # fmt: skip


def test_a_tiny_random_blip2_answers(tmp_path):
    import torch
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        OPTConfig,
    )  # fmt: skip

    torch.manual_seed(0)
    tokenizer = word_tokenizer(tmp_path)
    width = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**width, image_size=16, patch_size=8).to_dict(),
        qformer_config=Blip2QFormerConfig(**width, vocab_size=11, encoder_hidden_size=16).to_dict(),
        text_config=OPTConfig(
            vocab_size=11, hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2,
            word_embed_proj_dim=16, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        ).to_dict(),
        num_query_tokens=3, image_token_index=4,
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config).eval()
    processor = Blip2Processor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer, num_query_tokens=3)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    captioner = Blip2(str(tmp_path), max_new_tokens=4)
    frames = [Image.fromarray(frame) for frame in render(scenes(1), 2, size=32)[0]]
    answer = captioner.ask(frames, "describe frame .")
    assert isinstance(answer, str)
    assert "Question" not in answer
    assert captioner.ask([], "fuse") == ""
    assert captioner.ask(frames, "describe frame .") == answer
    several = captioner.ask_together([([frame], prompt) for frame in frames for prompt in ("describe .", "frame")])
    assert several == [captioner.ask([frame], prompt) for frame in frames for prompt in ("describe .", "frame")]
    assert captioner.model.dtype == torch.float32
    assert Blip2(str(tmp_path), dtype="bf16").model.dtype == torch.bfloat16


def test_a_tiny_random_chat_model_answers(tmp_path):
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )  # fmt: skip

    torch.manual_seed(0)
    tokenizer = word_tokenizer(tmp_path)
    width = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**width, image_size=16, patch_size=8, projection_dim=16).to_dict(),
        text_config=LlamaConfig(**width, vocab_size=11, pad_token_id=0, bos_token_id=1, eos_token_id=2).to_dict(),
        image_token_index=4,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).eval().save_pretrained(tmp_path)
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}"
        "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} Answer :"
    )
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}), tokenizer,
        patch_size=8, vision_feature_select_strategy="default", chat_template=template, image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(tmp_path)  # fmt: skip
    captioner = ChatModel(str(tmp_path), max_new_tokens=4)
    frames = [Image.fromarray(frame) for frame in render(scenes(1), 3, size=32)[0]]
    answer = captioner.ask(frames, "describe frame .")
    assert isinstance(answer, str)
    assert "Answer" not in answer.split()[:1]
    assert captioner.ask(frames, "describe frame .") == answer
    assert isinstance(captioner.ask([], "describe"), str)
    questions = [([frames[0]], "describe frame . describe"), ([frames[1]], "frame")]  # of two lengths
    assert captioner.ask_together(questions) == [captioner.ask(*question) for question in questions]
    assert len(captioner.ask_together([((), "describe"), ((), "frame . .")])) == 2
    assert new_captioner("chat", str(tmp_path), dtype="fp16").model.dtype == torch.float16


@pytest.mark.parametrize("family", ["qwen2_5_vl", "smolvlm2"])
def test_families_that_cut_pictures_up_answer_alike_alone_and_together(family, tmp_path):
    """Pictures of two sizes: their tokens differ in number, and those of a batch are padded."""
    from tests.vidrd.data import chat_models

    getattr(chat_models, f"make_{family}")(tmp_path)
    captioner = ChatModel(str(tmp_path), max_new_tokens=6)
    frames = [Image.fromarray(render(scenes(2), 1, size=size)[place, 0]) for place, size in enumerate((64, 96))]
    questions = [([frames[0]], "What is this?"), ([frames[1]], "Describe it at length."), (frames, "Both?")]
    alone = [captioner.ask(*question) for question in questions]
    assert captioner.ask_together(questions) == alone
    assert len(set(alone)) > 1
    without = [((), "Fuse these."), ((), "And these two.")]
    assert captioner.ask_together(without) == [captioner.ask(*question) for question in without]
