import errno
import os
import stat
import sys

import pytest

from course_pkg.files import atomic_write

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode, content", [("w", "new"), ("wb", b"\x00new\xff")])
def test_the_content_arrives_and_nothing_else_is_left(tmp_path, mode, content):
    path = tmp_path / "file"
    with atomic_write(path, mode) as file:
        file.write(content)
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert names_in(tmp_path) == ["file"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_write(path) as file:
        file.write("naïve\n✓\n")
    assert path.read_bytes() == "naïve\n✓\n".encode()


def test_the_old_content_is_there_until_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_error_while_writing_leaves_what_was_there(tmp_path, existed, error):
    path = tmp_path / "file"
    if existed:
        path.write_text("old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write("half of the ne")
        raise error
    assert names_in(tmp_path) == (["file"] if existed else [])
    if existed:
        assert path.read_text() == "old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_or_a_failed_replacement_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (type(path), "replace")), fail)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write("new")
    assert names_in(tmp_path) == ["file"]
    assert path.read_text() == "old"


@posix_only
def test_a_disk_that_fills_while_writing(tmp_path):
    # A limit on the size of files makes write() itself fail, as a full disk does.
    import resource
    import signal

    path = tmp_path / "file"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError), atomic_write(path, "wb") as file:
            file.write(bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names_in(tmp_path) == ["file"]
    assert path.read_text() == "old"


def test_the_content_is_on_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    steps = []
    replace, fsync = type(path).replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd)))
    monkeypatch.setattr(
        type(path), "replace", lambda *args: (steps.append("replace"), replace(*args))
    )
    with atomic_write(path) as file:
        file.write("new")
    assert steps == ["fsync", "replace"]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    with atomic_write(path) as file:
        file.write("new")
    assert path.read_text() == "new"


def test_a_folder_that_cannot_be_made_is_an_oserror(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError), atomic_write(tmp_path / "file" / "below"):
        pass
    assert (tmp_path / "file").read_text() == "old"


@posix_only
def test_permissions_of_a_new_file_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file") as file:
            file.write("new")
        assert os.umask(0o027) == 0o027  # the umask itself is as it was
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@posix_only
def test_permissions_of_a_replaced_file_are_kept(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o604)
    with atomic_write(path) as file:
        file.write("new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize("mode", ["a", "r", "x", "w+", "wt"])
def test_other_modes_are_refused(tmp_path, mode):
    with pytest.raises(ValueError, match="mode="), atomic_write(tmp_path / "file", mode):
        pass
    assert names_in(tmp_path) == []
