"""A folder is removed whatever is in it."""

import os
import sys

from qianwen.sandbox.removal import remove_folder


def test_a_folder_deeper_than_python_recurses_and_the_kernel_has_paths(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    place = os.open(top, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("a" * 100, dir_fd=place)
        inner = os.open("a" * 100, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=place))
    os.close(place)
    remove_folder(str(top))
    assert not list(tmp_path.iterdir())


def test_links_are_removed_and_not_followed(tmp_path):
    top, outside = tmp_path / "top", tmp_path / "outside"
    (top / "in").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_text("x")
    (top / "link").symlink_to(outside)
    (top / "in" / "link").symlink_to(outside)
    (top / "in" / "none").symlink_to("nowhere")
    os.mkfifo(top / "fifo")
    remove_folder(str(top))
    assert not top.exists() and (outside / "file").read_text() == "x"


def test_folders_without_rights_and_names_that_are_no_text_are_removed(tmp_path):
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    open(os.fsencode(top) + b"/\xff\n\x1b", "w").close()
    (top / "a" / "b").chmod(0)
    (top / "a").chmod(0o300)
    remove_folder(str(top))
    assert not top.exists()


def test_a_folder_that_is_gone_needs_no_removal(tmp_path):
    remove_folder(str(tmp_path / "gone"))
