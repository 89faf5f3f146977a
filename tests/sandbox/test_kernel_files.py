"""Files go to a kernel once, and what comes back stays in the folder and replaces nothing of the user's."""

import os

import pytest

from qianwen.sandbox.kernel_files import PNG, FileRefused, KernelFiles, check_name


@pytest.fixture
def files(tmp_path):
    (tmp_path / "files").mkdir()
    return KernelFiles(tmp_path / "files", 10_000)


def test_new_and_changed_files_are_given_once(files):
    (files.folder / "data").mkdir()
    (files.folder / "data" / "a.csv").write_text("1")
    (files.folder / "large").write_bytes(bytes(101))
    assert files.to_give(100) == ({"data/a.csv": b"1"}, ["large"])
    assert files.to_give(100) == ({}, [])
    (files.folder / "data" / "a.csv").write_text("22")
    assert files.to_give(100) == ({"data/a.csv": b"22"}, [])
    files.forget()
    assert files.to_give(100) == ({"data/a.csv": b"22"}, ["large"])


def test_links_are_not_given(files, tmp_path):
    (tmp_path / "secret").write_text("x")
    (files.folder / "link").symlink_to(tmp_path / "secret")
    (files.folder / "folder").symlink_to(tmp_path)
    assert files.to_give(100) == ({}, [])


def test_what_a_kernel_made_is_not_given_again_and_may_be_replaced(files):
    assert files.save("out/a.txt", b"1") == files.folder / "out" / "a.txt"
    assert files.to_give(100) == ({}, [])
    assert files.save("out/a.txt", b"2").read_bytes() == b"2"
    files.forget()
    assert files.to_give(100) == ({"out/a.txt": b"2"}, [])


def test_a_file_of_the_user_is_not_replaced(files):
    (files.folder / "a.csv").write_text("mine")
    assert files.save("a.csv", b"new").name == "a-1.csv"
    assert files.save("a.csv", b"newer").name == "a-2.csv"
    assert (files.folder / "a.csv").read_text() == "mine"


BAD_NAMES = ["", "/etc/x", "../x", "a/../x", "a//b", "./a", "a/./b", ".bashrc", "a/.git", "~/x", "-rf", "a\nb", "a\0b"]
BAD_NAMES += ["a\\b", "x" * 121, "六" * 41, "a/b/c/d/e", "a\u202egnp.exe", "\ud800", "a\x1b[2J", "a/", "\x85"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_plain_is_refused(files, name):
    with pytest.raises(FileRefused):
        files.save(name, b"x")
    assert not list(files.folder.iterdir())


@pytest.mark.parametrize("name", ["a", "销量.csv", "a/b/c/d.txt", "a b (1).png", "x" * 120, "a..b", "é"])
def test_plain_names_are_allowed(name):
    assert check_name(name) == name


def test_nothing_is_written_through_a_link_in_our_folder(files, tmp_path):
    (files.folder / "out").symlink_to(tmp_path)
    (files.folder / "a.txt").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text("mine")
    with pytest.raises(FileRefused, match="the name is in use"):
        files.save("out/x", b"x")
    assert files.save("a.txt", b"x").name == "a-1.txt"
    assert (tmp_path / "target").read_text() == "mine" and sorted(os.listdir(tmp_path)) == ["files", "target"]


def test_a_link_that_leads_nowhere_is_not_written_through(files, tmp_path):
    (files.folder / "a.txt").symlink_to(tmp_path / "target")
    files.save("a.txt", b"x")
    assert not (tmp_path / "target").exists()


def test_names_that_are_folders_or_below_files_are_refused(files):
    (files.folder / "folder").mkdir()
    (files.folder / "file").write_text("x")
    assert files.save("folder", b"x").name == "folder-1"
    with pytest.raises(FileRefused, match="the name is in use"):
        files.save("file/x", b"x")


def test_all_files_together_have_a_limit(files):
    files.save("a", bytes(9000))
    with pytest.raises(FileRefused, match="limit of size"):
        files.save("b", bytes(1001))
    files.save("c", bytes(1000))


def test_figures_have_numbers_and_are_png(files):
    (files.folder / "fig-002.png").write_text("mine")
    assert [files.save_figure(PNG + b"x").name for _ in range(2)] == ["fig-001.png", "fig-003.png"]
    with pytest.raises(FileRefused, match="not a PNG"):
        files.save_figure(b"<svg onload=alert(1)>")
