"""One prompt a class of our own, class names in templates, and lists from files in every form they have."""

import csv
import json
from pathlib import Path

import pytest

from bench.ucf101.classes import classes
from bench.ucf101.prompts import prompt_set, read_prompts

PYOCO = Path(__file__).parents[4] / "shared" / "notes" / "ucf101_prompts_pyoco.csv"
NAMES = [each.name for each in classes()]


def test_our_prompts_are_one_sentence_for_each_class():
    prompts = prompt_set("descriptive")
    assert [prompt.class_name for prompt in prompts.prompts] == NAMES == [prompt.id for prompt in prompts.prompts]
    texts = [prompt.text for prompt in prompts.prompts]
    assert len(set(texts)) == 101
    for text in texts:
        assert text[0].isupper()
        assert text.endswith(".")
        assert text.count(".") == 1
        assert 8 <= len(text.split()) <= 24
        assert text.isascii()
    assert len(prompts.sha256) == 64
    assert prompts.by_id["YoYo"].text == texts[-1]


def test_our_prompts_are_nobody_elses():
    if not PYOCO.is_file():
        pytest.skip("the public list is not at hand")
    theirs = read_prompts(PYOCO)
    assert [prompt.class_name for prompt in theirs.prompts] == NAMES
    said = {prompt.text.casefold().strip(".") for prompt in theirs.prompts}
    assert not said & {prompt.text.casefold().strip(".") for prompt in prompt_set("descriptive").prompts}


def test_class_names_stand_in_a_template():
    plain = prompt_set("class-name").by_id
    assert plain["CleanAndJerk"].text == "clean and jerk"
    assert plain["YoYo"].text == "yo yo"
    prompts = prompt_set("class-name:a video of {class}, filmed")
    assert prompts.by_id["TaiChi"].text == "a video of tai chi, filmed"
    assert prompts.sha256 != prompt_set("class-name").sha256
    with pytest.raises(ValueError, match=r"needs \{class\}"):
        prompt_set("class-name:a video")
    with pytest.raises(ValueError, match="there are no prompts 'descriptve'"):
        prompt_set("descriptve")


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_same_list_is_the_same_whatever_its_form(tmp_path):
    rows = [(name, f"text {i}, of a class") for i, name in enumerate(NAMES)]
    table = tmp_path / "a.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("extra", "Prompt", "CLASS"), *(("", text, name) for name, text in reversed(rows))])
    bare = tmp_path / "b.csv"
    with bare.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    files = [
        table,
        bare,
        write(tmp_path, "c.json", dict(rows)),
        write(tmp_path, "d.json", [{"label": each.words, "caption": rows[each.index][1]} for each in classes()]),
        write(tmp_path, "e.txt", "\ufeff" + "\r\n".join(text for _, text in rows)),
    ]
    assert len({read_prompts(path).sha256 for path in files}) == 1
    assert "in the order of classInd.txt" in read_prompts(files[-1]).source
    assert prompt_set(str(table)).name == "a.csv"


def test_several_prompts_of_a_class_are_numbered(tmp_path):
    prompts = read_prompts(write(tmp_path, "a.json", {"Yo Yo": ["one", "two"], "archery": "three"}))
    assert [(prompt.id, prompt.class_name, prompt.text) for prompt in prompts.prompts] == [
        ("Archery", "Archery", "three"), ("YoYo-1", "YoYo", "one"), ("YoYo-2", "YoYo", "two"),
    ]  # fmt: skip


def test_lists_without_classes_are_numbered(tmp_path):
    prompts = read_prompts(write(tmp_path, "a.txt", "a cat\n\na dog/../x\n"))
    assert [(prompt.id, prompt.class_name) for prompt in prompts.prompts] == [("p00000", None), ("p00001", None)]
    keys = read_prompts(write(tmp_path, "a.json", {"0": ["one", "two"], "1": "three"}))
    assert [prompt.text for prompt in keys.prompts] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", " \n", "holds no prompts"),
        ("a.csv", "", "holds no prompts"),
        ("a.csv", "class,prompt\nArchery,\n", "holds an empty prompt"),
        ("a.csv", "class,prompt\nArchery\n", "'Archery' has too few columns"),
        ("a.csv", "one,two,three\n1,2,3\n", "a header must name a column prompt or"),
        ("a.csv", "class,prompt\nArchery,a\nArchry,b\n", "Archry is no class of UCF-101"),
        ("a.json", {"Archery": 3}, "a prompt must be a text: got '3'"),
        ("a.json", "{", "cannot be read as prompts"),
        ("a.json", "3", "a list was expected"),
        ("a.yaml", "x", "must be a .csv, .json or .txt"),
    ],
)
def test_a_list_that_is_none_says_why(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(write(tmp_path, name, content))


def test_text_that_is_no_utf8_is_one_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="cannot be read as prompts"):
        read_prompts(tmp_path / "a.txt")
