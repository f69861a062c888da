"""Archives of files that are no videos: what names, lists and sizes are checked on."""

from bench.ucf101.classes import Class, classes, file_name, list_files

TWO = (0, 36)  # ApplyEyeMakeup, and HandstandPushups with its odd stems


def table(clips=2, which=TWO):
    """Some classes with so many clips in each of their 25 groups."""
    return tuple(Class(i, classes()[c].name, classes()[c].stem, (clips,) * 25) for i, c in enumerate(which))


def fake_archive(folder, rows=None):
    """The layout of the archive, every file a few bytes, with its lists."""
    rows = rows or table()
    for name, content in list_files(rows).items():
        path = folder / "ucfTrainTestlist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for each in rows:
        (folder / "UCF-101" / each.name).mkdir(parents=True)
        for group, count in enumerate(each.clips, 1):
            for clip in range(1, count + 1):
                path = folder / "UCF-101" / file_name(each, group, clip)
                path.write_bytes(b"x" * (group + clip))
    return folder
