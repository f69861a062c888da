"""The picture of the packages shows what is there, and would show what is not."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
architecture = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(architecture)


@pytest.fixture
def project(tmp_path):
    for name, source in {
        "vidrd/__init__.py": "",
        "vidrd/noise.py": "",
        "vidrd/models/__init__.py": "",
        "vidrd/models/unet.py": "def late():\n    from vidrd import noise",
        "bench/__init__.py": "",
        "bench/run.py": "import vidrd.models.unet\nfrom vidrd.noise import draw",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


def test_rooms_and_arrows_come_from_the_sources(project):
    files, arrows = architecture.house(project)
    assert files == {"vidrd": 2, "vidrd.models": 2, "bench": 2}
    assert arrows == {("vidrd.models", "vidrd"), ("bench", "vidrd.models"), ("bench", "vidrd")}


def test_a_new_room_and_a_new_import_change_the_picture(project):
    before = architecture.picture(project)
    (project / "vidrd/noise.py").write_text("import bench.run")
    turned = architecture.picture(project)
    assert turned != before
    assert turned.count("marker-end") == before.count("marker-end") + 1
    (project / "bench/kernels").mkdir()
    (project / "bench/kernels/work.py").write_text("")
    assert ">kernels/</text>" in architecture.picture(project)


def test_the_picture_is_up_to_date():
    assert architecture.PICTURE.read_text() == architecture.picture(), "run: python docs/architecture.py"


def test_the_page_of_the_architecture_names_every_package():
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert all(f"`{package}/`" in page for package in architecture.PACKAGES)
