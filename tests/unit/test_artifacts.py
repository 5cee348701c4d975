"""Files that are whole or absent: what killed writers leave, and who holds a folder."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from support import refused

from spacer_lib import artifacts
from spacer_lib.artifacts import (
    FORGOTTEN_S,
    Manifest,
    atomic_folder,
    atomic_path,
    folder_sizes,
    is_temporary,
    listing,
    move_folder,
    read_json,
    remove_folder,
    scratch_folder,
    sole_writer,
    sweep,
    write_json,
    write_text,
)
from spacer_lib.benchmarks.schema import find_file
from spacer_lib.rooms.arkitscenes import _by_time
from spacer_lib.rooms.layouts import find_scans, input_files
from spacer_lib.rooms.scannet.exported import _numbered
from spacer_lib.rooms.scans import synthetic_meta, try_scenes
from spacer_lib.settings import setting_names
from spacer_lib.training.checkpoints import COMPLETE, complete_checkpoints

# ---------------------------------------------------------------- leftovers


def dead_process():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def unfinished():
    """``unfinished(writer, path)``: the temporary path of a writer that has begun."""
    kept = []  # a writer that is forgotten would tidy up

    def begin(writer, path):
        kept.append(writer(path))
        return kept[-1].__enter__()

    return begin


@pytest.fixture
def left_in(unfinished):
    """``left_in(folder, kind)``: a file or folder before its rename."""
    return functools.partial(_left_in, unfinished)


def _left_in(unfinished, folder, kind, *, pid=None, host=None):
    writer = atomic_folder if kind == "folder" else atomic_path
    path = unfinished(writer, folder / "a.json")
    fields = path.name.split(".")  # "", spacer-tmp, process, machine, ...
    fields[2] = str(fields[2] if pid is None else pid)
    fields[3] = fields[3] if host is None else host
    renamed = path.with_name(".".join(fields))
    path.rename(renamed)
    if kind == "folder":
        (renamed / "half").write_text("x")
    return renamed


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_writer_removes_what_a_dead_one_left(tmp_path, left_in, kind):
    own = left_in(tmp_path, kind)
    dead = left_in(tmp_path, kind, pid=dead_process())
    below = left_in(tmp_path / "below", kind, pid=dead_process())
    artifacts._swept.clear()  # as a new process
    write_text(tmp_path / "a.json", "{}")
    assert own.exists() and not dead.exists() and below.exists()
    with sole_writer(tmp_path):
        assert own.exists() and not below.exists()


def test_a_writer_on_another_machine_counts_as_dead_after_two_weeks(
    tmp_path, left_in, monkeypatch
):
    path = left_in(tmp_path, "file", pid=dead_process(), host="elsewhere-1")
    sweep(tmp_path)
    assert path.exists()
    later = time.time() + FORGOTTEN_S + 1
    monkeypatch.setattr(artifacts.time, "time", lambda: later)
    sweep(tmp_path)
    assert not path.exists()


def test_another_process_of_the_same_number_is_not_the_writer(
    tmp_path, left_in, monkeypatch
):
    path = left_in(tmp_path, "file")
    began = time.time() + 3600
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began)
    sweep(tmp_path)
    assert not path.exists()


def test_a_process_that_was_not_waited_for_is_dead(tmp_path, left_in):
    process = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    path = left_in(tmp_path, "file", pid=process.pid)
    sweep(tmp_path)
    process.wait()
    assert not path.exists()


def test_scratch_folders_of_dead_processes_go_too(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts.tempfile, "gettempdir", lambda: str(tmp_path))
    with scratch_folder() as first:
        (first / "file").write_text("x")
        left = first.with_name(f".spacer-tmp.{dead_process()}.{artifacts._host()}.x")
        left.mkdir()
        artifacts._swept.clear()
        with scratch_folder() as second:
            assert first.exists() and second != first and not left.exists()
    assert not list(tmp_path.iterdir())


def metas(folder):
    synthetic_meta(folder / "a.json", 1)
    return folder / "a.json", lambda: [s.scene_id for s in try_scenes(folder)[0]]


def scans(folder):
    (folder / "scene0000_00").mkdir()
    (folder / "scene0000_00" / "scene0000_00.txt").write_text("numColorFrames = 1\n")
    return folder / "scene0000_00", lambda: list(find_scans(folder))


def scan_files(folder):
    (folder / "a.txt").write_text("x")
    return folder / "a.txt", lambda: input_files(folder)


def frames(folder):
    (folder / "7.jpg").write_bytes(b"x")
    return folder / "7.jpg", lambda: _numbered(folder, (".jpg",))


def timed_frames(folder):
    (folder / "41_12.5.png").write_bytes(b"x")
    return folder / "41_12.5.png", lambda: _by_time(folder, ".png")


def benchmark(folder):
    (folder / "test-0.parquet").write_bytes(b"x")
    return folder / "test-0.parquet", lambda: find_file(folder, ["*.parquet"])


def settings(folder):
    (folder / "a.yaml").write_text("x: 1\n")
    return folder / "a.yaml", lambda: setting_names(folder)


def checkpoints(folder):
    write_json(folder / "checkpoint-1" / COMPLETE, {"step": 1, "files": {}})
    return folder / "checkpoint-1", lambda: complete_checkpoints(folder)


def files_below(folder):
    write_text(folder / "below" / "a.jsonl", "{}\n")
    return folder / "below" / "a.jsonl", lambda: listing(folder, "*.jsonl", deep=True)


READERS = (
    metas,
    scans,
    scan_files,
    frames,
    timed_frames,
    benchmark,
    settings,
    checkpoints,
    files_below,
)


@pytest.mark.parametrize("content", ["empty", "half", "whole"])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_no_reader_of_a_folder_takes_a_leftover_for_data(
    tmp_path, unfinished, reader, content
):
    path, read = reader(tmp_path)
    before = read()
    if path.is_dir():
        left = unfinished(atomic_folder, path)
        if content != "empty":
            shutil.copytree(path, left, dirs_exist_ok=True)
        if content == "half":
            next(left.rglob("*.*")).unlink()
    else:
        left = unfinished(atomic_path, path)
        data = path.read_bytes()
        part = {"empty": 0, "half": len(data) // 2, "whole": len(data)}[content]
        left.write_bytes(data[:part])
    assert is_temporary(left.name) and left.exists()
    assert read() == before


# ---------------------------------------------------------------- whole or absent


def test_what_others_believe_is_on_the_disk_before(tmp_path, monkeypatch):
    events, real_sync, real_replace = [], os.fsync, os.replace

    def sync(handle):
        events.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        real_sync(handle)

    def replace(source, target):
        events.append(("rename", str(target)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    rename = ("rename", str(tmp_path / "a.json"))
    assert events == [("sync", str(temporary)), rename, ("sync", str(tmp_path))]
    events.clear()
    with atomic_folder(tmp_path / "made") as temporary:
        (temporary / "below").mkdir()
        (temporary / "below" / "file").write_text("x")
    place = events.index(("rename", str(tmp_path / "made")))
    synced = [path.removeprefix(str(temporary)) for _, path in events[:place]]
    assert synced == ["/below/file", "/below", ""]
    assert events[place + 1 :] == [("sync", str(tmp_path))]
    events.clear()
    write_text(tmp_path / "new" / "folder" / "a.txt", "x")
    assert events[:2] == [("sync", str(tmp_path / "new")), ("sync", str(tmp_path))]


def test_an_error_leaves_the_old_folder(tmp_path):
    write_text(tmp_path / "made" / "old", "x")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "made") as part:
        (part / "new").write_text("x")
        raise ZeroDivisionError
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_folders_replace_and_vanish(tmp_path):
    for name in ("a", "b"):
        write_text(tmp_path / name / name, "x")
    move_folder(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in tmp_path.rglob("*")] == ["b", "a"]
    remove_folder(tmp_path / "b")
    remove_folder(tmp_path / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["shortened", "longer", "absent"])
def test_a_manifest_notices_a_file_that_changed(tmp_path, change):
    write_text(tmp_path / "a.mp4", "0123456789")
    with Manifest(tmp_path) as manifest:
        manifest.record("a", 1, ["a.mp4"])
    assert Manifest(tmp_path).done("a", 1) and not Manifest(tmp_path).done("a", 2)
    os.truncate(tmp_path / "a.mp4", {"longer": 11}.get(change, 9))
    if change == "absent":
        (tmp_path / "a.mp4").unlink()
    assert not Manifest(tmp_path).done("a", 1)


def test_a_manifest_of_names_alone_proves_nothing(tmp_path):
    write_text(tmp_path / "a.mp4", "x")
    old = {"entries": {"a": {"fingerprint": 1, "files": ["a.mp4"]}}}
    write_json(tmp_path / "manifest.json", old)
    assert not Manifest(tmp_path).done("a", 1)


def test_a_checkpoint_with_a_shortened_file_is_not_whole(tmp_path):
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        write_text(folder / "model.safetensors", "0123456789")
        write_json(folder / COMPLETE, {"step": step, "files": folder_sizes(folder)})
    assert len(complete_checkpoints(tmp_path)) == 2
    os.truncate(tmp_path / "checkpoint-2" / "model.safetensors", 9)
    assert complete_checkpoints(tmp_path) == [tmp_path / "checkpoint-1"]


# ---------------------------------------------------------------- one writer a folder

HOLD = """
import sys, time
from spacer_lib.artifacts import sole_writer
with sole_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``tmp_path / "out"``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_refusal_names_the_holder_and_a_dead_holder_is_followed(holder, tmp_path):
    folder = tmp_path / "out"
    with refused("artifacts.folder-in-use") as caught, sole_writer(folder):
        pass
    said = caught.value.got
    assert f"process {holder.pid} on {os.uname().nodename}, since 20" in said
    assert f"`-c {folder}`" in said
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    left = list(tmp_path.iterdir())
    assert [is_temporary(path.name) for path in left] == [True]
    with sole_writer(folder):
        assert json.loads(left[0].read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_who_waits_gets_the_folder_after_the_holder(tmp_path):
    order = []

    def second():
        with sole_writer(tmp_path / "out", wait=True):
            order.append("second")

    with sole_writer(tmp_path / "out"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_surroundings_are_read_only_holds_its_lock(
    tmp_path, monkeypatch
):
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with sole_writer(folder):
        assert [path.name for path in folder.iterdir()] == [".spacer-lock.out"]
        assert listing(folder) == [] and list(tmp_path.iterdir()) == [folder]
        with refused("artifacts.folder-in-use"), sole_writer(folder):
            pass
    assert not list(folder.iterdir())


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(artifacts.fcntl, "flock", no_locks)
    with refused("artifacts.no-locks", says="out"), sole_writer(tmp_path / "out"):
        pass


def test_every_command_that_writes_a_folder_takes_its_lock(tmp_path, capsys):
    from spacer_lib import cli
    from spacer_lib.questions.general_sample import synthetic_general

    meta = synthetic_meta(tmp_path / "meta.json", 6)
    general = synthetic_general(5, tmp_path / "general", 0)
    assert cli.main(["qa", "--meta", str(meta), "--out", str(tmp_path / "qa")]) == 0
    scan = tmp_path / "scans" / "scene0000_00"
    write_text(scan / "scene0000_00.aggregation.json", "{}")
    commands = (
        f"synth --scenes 1 --out {tmp_path}/out",
        f"parse {scan} --out {tmp_path}/out",
        f"qa --meta {meta} --out {tmp_path}/out",
        f"mix --spatial {tmp_path}/qa --general {general} --out {tmp_path}/out",
    )
    with sole_writer(tmp_path / "out"):
        for command in commands:
            capsys.readouterr()
            assert cli.main(command.split()) == 2, command
            assert "is in use" in capsys.readouterr().err, command
    assert not (tmp_path / "out").exists()
    assert read_json(tmp_path / "qa" / "report.json")["seed"] == 0
