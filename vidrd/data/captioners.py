"""Models that caption: BLIP-2 and chat models through transformers, and any server with OpenAI's HTTP interface.

Models are loaded from folders, or by an id that was fetched before; nothing here looks anything up on a hub.
"""

import base64
import email.utils
import http.client
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vidrd.data.captions import Captioner, NoAnswerError, Template
from vidrd.entry import one_line
from vidrd.exact_loading import find_model, quiet
from vidrd.precision import DTYPES

PATIENCE = 8  # questions in a row that a server may leave without an answer
MOST_ANSWER = 1 << 20  # bytes of an answer


class Blip2:
    """BLIP-2: sees one picture at a time and answers a question; several pictures are described one by one.

    It cannot answer without a picture, so fusing falls to the caption of the middle frame.
    """

    def __init__(self, folder: str, *, device: str = "cpu", dtype: str = "auto", max_new_tokens: int = 60):
        from transformers import Blip2ForConditionalGeneration, Blip2Processor  # noqa: PLC0415 - seconds

        self.model, self.processor = _load(Blip2ForConditionalGeneration, Blip2Processor, folder, device, dtype)
        self.name, self.max_new_tokens = f"blip2:{Path(folder).name}", max_new_tokens

    def ask(self, frames: Sequence[Image.Image], prompt: str) -> str:
        """Answers for the frames in order, one sentence each; empty without frames."""
        return " ".join(answer for frame in frames for answer in self.ask_together([([frame], prompt)]))

    @torch.no_grad()
    def ask_together(self, questions: Sequence[tuple[Sequence[Image.Image], str]]) -> list[str]:
        """One sentence for each question's frame; empty where there is none."""
        if not all(frames for frames, _ in questions):
            return [""] * len(questions)
        pictures = [frames[0] for frames, _ in questions]
        texts = [f"Question: {prompt} Answer:" for _, prompt in questions]
        given = self.processor(images=pictures, text=texts, padding=True, return_tensors="pt")
        given = given.to(self.model.device, self.model.dtype)
        tokens = self.model.generate(**given, max_new_tokens=self.max_new_tokens, do_sample=False)
        asked = given["input_ids"]
        if torch.equal(tokens[:, : asked.shape[1]], asked):  # a decoder repeats the question
            tokens = tokens[:, asked.shape[1] :]
        return [answer.strip() for answer in self.processor.batch_decode(tokens, skip_special_tokens=True)]


class ChatModel:
    """Any image-text chat model of transformers (SmolVLM2, Qwen-VL, LLaVA-OneVision, InternVL, ...)."""

    def __init__(self, folder: str, *, device: str = "cpu", dtype: str = "auto", max_new_tokens: int = 96):
        from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: PLC0415 - seconds

        self.model, self.processor = _load(AutoModelForImageTextToText, AutoProcessor, folder, device, dtype)
        self.name, self.max_new_tokens = f"chat:{Path(folder).name}", max_new_tokens

    def ask(self, frames: Sequence[Image.Image], prompt: str) -> str:
        """The model's answer, without the question."""
        return self.ask_together([(frames, prompt)])[0]

    @torch.no_grad()
    def ask_together(self, questions: Sequence[tuple[Sequence[Image.Image], str]]) -> list[str]:
        """The model's answers, without the questions."""
        talks = []
        for frames, prompt in questions:
            content: list[dict[str, Any]] = [{"type": "image", "image": frame} for frame in frames]
            talks.append([{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}])
        padded = {"processor_kwargs": {"padding": True}} if len(talks) > 1 else {}
        given = self.processor.apply_chat_template(
            talks, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **padded
        ).to(self.model.device)
        if "pixel_values" in given:
            given["pixel_values"] = given["pixel_values"].to(self.model.dtype)
        tokens = self.model.generate(**given, max_new_tokens=self.max_new_tokens, do_sample=False)
        answers = tokens[:, given["input_ids"].shape[1] :]
        return [answer.strip() for answer in self.processor.batch_decode(answers, skip_special_tokens=True)]


def _load(model: Any, processor: Any, folder: str, device: str, dtype: str) -> tuple[Any, Any]:
    """A model in its own precision ("auto") or another, and its processor, which pads on the left for generation."""
    here = str(find_model(folder))
    with quiet():
        loaded = model.from_pretrained(here, local_files_only=True, dtype=DTYPES.get(dtype, "auto")).to(device).eval()
        reader = processor.from_pretrained(here, local_files_only=True)
    reader.tokenizer.padding_side = "left"
    return loaded, reader


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key, and the frames, to another host."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse to follow."""


class Endpoint:
    """An OpenAI-compatible server: vLLM, SGLang, llama.cpp, or MiniGPT-4 and others behind such an interface.

    A busy or failing server (429, 5xx, no connection, half an answer) is asked again, ever more slowly, or when it asks
    for (Retry-After, up to the time-out). Redirects are not followed.
    """

    def __init__(
        self,
        url: str,  # up to and without /chat/completions, as in http://localhost:8000/v1
        model: str,
        *,
        key: str | None = None,
        timeout: float = 120.0,  # seconds
        tries: int = 4,
        wait: float = 1.0,  # seconds before the second try; doubles
        longer_side: int = 768,  # pixels to which frames are reduced before they are sent
    ):
        check_address(url)
        self.url, self.model, self.key = url.rstrip("/"), model, key
        self.timeout, self.tries, self.wait, self.longer_side = timeout, tries, wait, longer_side
        self.name = f"http:{model}"
        self._silent = 0  # questions in a row without an answer
        self._open = urllib.request.build_opener(_NoRedirect).open

    def ask(self, frames: Sequence[Image.Image], prompt: str) -> str:
        """The model's answer.

        Raises:
            NoAnswerError: the server refuses these frames, stays silent, or answers with something else.
            ValueError: it refuses whoever asks, sends elsewhere, or has been silent PATIENCE times in a row.
        """
        content = [{"type": "image_url", "image_url": {"url": self._as_url(frame)}} for frame in frames]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}],
            "temperature": 0,
            "max_tokens": 128,
        }
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        fault, pause = "", 0.0
        for attempt in range(self.tries):
            if attempt:
                time.sleep(max(self.wait * 2 ** (attempt - 1), pause))
                pause = 0.0  # it was for this once
            try:
                with self._open(request, timeout=self.timeout) as reply:
                    answer = self._read(_body(reply, self.timeout))
                self._silent = 0
                return answer
            except NoAnswerError as error:
                fault = str(error)
                break
            except urllib.error.HTTPError as error:
                fault = f"{error.code}: {_reason(error)}"
                if error.code in (401, 403, 404) or 300 <= error.code < 400:
                    raise ValueError(f"{self.url} gives no caption ({fault}): check address, model and key") from error
                if error.code != 429 and error.code < 500:
                    raise NoAnswerError(f"{self.url} gives no caption ({fault})") from error
                pause = min(self.timeout, _pause(error.headers.get("Retry-After", "")))
            except (OSError, http.client.HTTPException) as error:
                fault = str(error) or type(error).__name__
        self._silent += 1
        if self._silent >= PATIENCE:
            raise ValueError(
                f"{self.url} has given no caption {self._silent} times in a row ({fault}): check it and run again"
            )
        raise NoAnswerError(f"{self.url} gives no caption ({fault}): check address, model and key")

    def _read(self, data: bytes) -> str:
        try:
            answer = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise NoAnswerError(f"it does not answer as an OpenAI-compatible server: {data[:200]!r}") from error
        parts = answer if isinstance(answer, list) else [{"text": answer}]
        texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
        return " ".join(text for text in texts if isinstance(text, str)).strip()

    def _as_url(self, frame: Image.Image) -> str:
        small = frame.convert("RGB")
        small.thumbnail((self.longer_side, self.longer_side))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=90)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _reason(error: urllib.error.HTTPError) -> str:
    """What a server says with its refusal; "" where that breaks off too."""
    try:
        return one_line(error.read(300).decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return ""


def _body(reply: http.client.HTTPResponse, seconds: float) -> bytes:
    """The whole of an answer.

    Raises:
        http.client.IncompleteRead: it breaks off, or is empty.
        TimeoutError: after `seconds` more of it is to be read, or a read takes longer than the socket's own time-out;
            so a server that stalls is left after the sum of both at the latest.
    """
    data, until = b"", time.monotonic() + seconds
    while reply.length != 0 and len(data) < MOST_ANSWER:  # None: only the server tells when it ends
        if time.monotonic() > until:
            raise TimeoutError(f"it has not finished its answer after {seconds:g} seconds")
        part = reply.read1(MOST_ANSWER - len(data))
        if not part:
            break
        data += part
    if reply.length or not data:
        raise http.client.IncompleteRead(data, reply.length)
    return data


def _pause(said: str) -> float:
    """Seconds that a server asks to be left alone: a number, or the time until a date; 0 where it says neither."""
    try:
        return (
            float(said) if said.strip().isdigit() else email.utils.parsedate_to_datetime(said).timestamp() - time.time()
        )
    except (ValueError, OverflowError):
        return 0.0


CAPTIONERS: dict[str, Callable[..., Captioner | Template]] = {
    "template": lambda model, **options: Template(),
    "blip2": lambda model, *, device="cpu", dtype="auto", **options: Blip2(model, device=device, dtype=dtype),
    "chat": lambda model, *, device="cpu", dtype="auto", **options: ChatModel(model, device=device, dtype=dtype),
    "http": lambda model, *, endpoint="", key=None, tries=4, timeout=120.0, **options: Endpoint(
        endpoint, model, key=key, tries=tries, timeout=timeout
    ),
}


def check_address(url: str) -> None:
    """Raise ValueError where an address is none of an HTTP server."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"an endpoint's address begins with http:// or https://: got {url!r}, name one by --endpoint")


def check_captioner(kind: str, model: str, endpoint: str = "") -> None:
    """Raise ValueError where a captioner cannot be made, without loading it."""
    if kind not in CAPTIONERS:
        raise ValueError(f"a captioner is one of {', '.join(CAPTIONERS)}: got {kind}")
    if kind != "template" and not model:
        raise ValueError(f"captioner {kind} needs a model: a folder, or the name that the server knows it by")
    if kind == "http":
        check_address(endpoint)
    elif kind != "template":
        find_model(model)


def new_captioner(kind: str, model: str = "", **options: Any) -> Captioner | Template:
    """A captioner by name.

    Raises:
        ValueError: no such kind, its model is not here, or needs a package that is not.
    """
    check_captioner(kind, model, options.get("endpoint", ""))
    try:
        return CAPTIONERS[kind](model, **options)
    except ImportError as error:
        raise ValueError(
            f"the captioner {model} needs a package that is not installed: {one_line(str(error))}"
        ) from error
    except OSError as error:
        raise ValueError(f"the captioner {model} is not here: {one_line(str(error))}") from error
