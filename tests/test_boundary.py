"""Errors of the system: one line with the file and a remedy, and no half file."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from spacer_lib import cli
from spacer_lib.artifacts import append_jsonl, read_json, write_json
from spacer_lib.cli import boundary
from spacer_lib.errors import SpacerError

ROOT = Path(__file__).resolve().parent.parent
SYNTH = "synth --meta-only --scenes 1 --out made"


def spacer(words, folder, redirect="", **options):
    """Run ``spacer`` through a shell in a folder; the finished process."""
    command = f'"{sys.executable}" -m spacer_lib {words} {redirect}'
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def only_line(text):
    (line,) = text.strip().splitlines()
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("redirect", ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_closed_stream_stops_nothing(tmp_path, redirect):
    done = spacer(SYNTH, tmp_path, redirect)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_json(tmp_path / "made" / "meta.json")) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_is_one_line(tmp_path, monkeypatch, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = spacer(SYNTH, tmp_path, ">/dev/full")
    assert done.returncode == 2
    line = only_line(done.stderr)
    assert "standard output" in line and "No space left on device" in line
    assert len(read_json(tmp_path / "made" / "meta.json")) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_left_is_no_error(tmp_path, monkeypatch, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = spacer(SYNTH, tmp_path, "| true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_error_stream_keeps_the_status(tmp_path):
    assert spacer("qa --meta absent --out x", tmp_path, "2>/dev/full").returncode == 2


def test_a_deleted_working_folder_is_named(tmp_path):
    (tmp_path / "gone").mkdir()
    command = "cd gone; rmdir ../gone; "
    done = subprocess.run(
        ["bash", "-c", f'{command} "{sys.executable}" -m spacer_lib {SYNTH}'],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "working folder" in only_line(done.stderr)


def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = spacer(SYNTH, tmp_path, preexec_fn=limit)
    assert done.returncode == 2
    line = only_line(done.stderr)
    assert "made/meta.json: got File too large" in line and "ulimit -f" in line
    assert list((tmp_path / "made").iterdir()) == []


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    full = tmp_path / "full.jsonl"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        append_jsonl(full, [{"a": 1}])
    assert caught.value.filename == str(full)

    def write(self, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "x.json", {})
    line = str(boundary.as_refusal(caught.value))
    assert f"{tmp_path}/x.json: got No space left" in line and "free space" in line
    assert [path.name for path in tmp_path.iterdir()] == ["full.jsonl"]


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        ("qa --meta {loop} --out o", "loop"),
        ("synth --meta-only --out {loop}/x", "Too many levels of symbolic links"),
        ("synth --meta-only --out {loop}", "remove what is there"),
        ("synth --meta-only --out {meta}/x", "Not a directory"),
        ("synth --meta-only --out {meta}", "remove what is there"),
        ("qa --meta {long} --out o", "choose a shorter name"),
        ("synth --meta-only --out {long}", "choose a shorter name"),
        ("qa --meta {meta} --out o --json {here}", "the name of a file"),
        ("train --config {loop}.yaml", "leads back to itself"),
        ("train --config {long}", "choose a shorter name"),
        ("train --config {here}/", "recipe"),
        ("mix --spatial {loop} --general {loop} --out o", "loop"),
        ("parse {loop} --out o", "loop"),
        ("report {loop}", "loop"),
        ("evaluate --benchmark vsi --data {loop} --floor majority", "loop"),
        ("score --benchmark vsi --predictions {loop}", "loop"),
    ],
)
def test_odd_paths_are_refused_in_one_line(tmp_path, monkeypatch, capsys, words, fact):
    monkeypatch.chdir(tmp_path)
    for name in ("loop", "loop.yaml"):
        (tmp_path / name).symlink_to(tmp_path / name)
    write_json(tmp_path / "meta.json", {})
    places = {"loop": tmp_path / "loop", "meta": tmp_path / "meta.json"}
    filled = words.format(**places, long="x" * 300, here=tmp_path)
    assert cli.main(filled.split()) == 2
    assert fact in only_line(capsys.readouterr().err)
    assert not (tmp_path / "o").exists()


class Unnamed(Exception):
    """An error that no command expects."""


@pytest.mark.parametrize(
    ("error", "kind", "fact"),
    [
        (OSError(errno.EMFILE, "Too many open files", "a.json"), "system", "ulimit -n"),
        (OSError(errno.EROFS, "Read-only file system"), "system", "can be written"),
        (OSError(errno.EXDEV, "Cross-device", "a", None, "b"), "system", "a → b"),
        (MemoryError(), "memory", "--workers"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory", "batch"),
        (ImportError("x.so: failed to map segment"), "memory", "map segment"),
        (RuntimeError("write: No space left on device"), "disk-full", "free space"),
        (RecursionError("maximum recursion depth"), "nesting", "nested too deeply"),
        (ImportError("No module named x", name="x"), "package", "make setup"),
        (Unnamed("odd\nwords"), "unforeseen", "SPACER_TRACEBACK=1"),
    ],
)
def test_other_errors_have_a_remedy(monkeypatch, capsys, error, kind, fact):
    def fail(*_):
        raise error

    monkeypatch.setattr(boundary, "check_working_folder", lambda: None)
    monkeypatch.setattr(cli, "app", lambda *_, **__: fail())
    assert cli.main(["qa"]) == 2
    assert fact in only_line(capsys.readouterr().err)
    with pytest.raises(SpacerError) as caught, boundary.in_one_line():
        fail()
    assert caught.value.kind == f"cli.{kind}"
    monkeypatch.setenv("SPACER_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main(["qa"])
