"""scripts/setup.sh under a made-up PATH: messages, order of steps, resuming.

Nothing is installed: the commands the script looks for are small stand-ins that
write down how they were called.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INPUTS = (
    "constraints.txt",
    "pyproject.toml",
    "requirements.lock",
    "requirements-cuda.lock",
    "requirements-cpu.lock",
    "scripts/setup.sh",
)
TOOLS = "bash cat cp chmod dirname env grep mkdir rm sha256sum sleep tail true".split()
LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libgomp.so.1": "libgomp1",
    "libX11.so.6": "libx11-6",
}

# Stands in for the system's Python and, copied by "venv", for the environment's.
PYTHON = """
echo "python $*" >>"$CALLS"
case "$*" in
    *sys.version_info*) exit "${WRONG_VERSION:-0}" ;;
    *get_path*) echo "$HEADERS" ;;
    "-m venv "*)
        mkdir -p "$4/bin" && cp "$0" "$4/bin/python"
        echo "command = python -m venv --clear $4" >"$4/pyvenv.cfg" ;;
    *importlib.metadata*) exit "${NO_CUDA:-1}" ;;
    *"pip install"*"${BROKEN_PACKAGE:-no such package}"*)
        echo "${SAID:-no matching distribution}"; exit 1 ;;
esac
"""


class Sandbox:
    """A copy of what set-up reads, in a folder with a space, and a PATH of its own."""

    def __init__(self, folder):
        self.root = folder / "a checkout"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in INPUTS:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.root / name)
        self.calls_file = folder / "calls"
        (folder / "include").mkdir()
        (folder / "include" / "Python.h").touch()
        self.env = {
            "PATH": str(self.bin),
            "CALLS": str(self.calls_file),
            "HEADERS": str(folder / "include"),
        }
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.command("python3.11", PYTHON)
        self.command("id", "echo 1000")
        self.command("ffmpeg")
        self.command("g++")
        self.libraries(LIBRARIES)

    def command(self, name, body=""):
        path = self.bin / name
        path.write_text(f"#!{self.bin / 'bash'}\n{body}\n")
        path.chmod(0o755)

    def libraries(self, names):
        self.command("ldconfig", "\n".join(f"echo '{name} => /x'" for name in names))

    def apt(self, status=0):
        self.command("apt-get", f'echo "apt-get $*" >>"$CALLS"; exit {status}')

    def run(self, **env):
        return subprocess.run(
            [str(self.root / "scripts" / "setup.sh")],
            capture_output=True,
            text=True,
            env={**self.env, **env},
            cwd=self.bin,
            timeout=30,
        )

    def calls(self, word=""):
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        return [line for line in lines if word in line]

    @property
    def stamp(self):
        return self.root / ".venv" / ".spacer-stamp"


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


def test_missing_python_is_one_clear_message(sandbox):
    (sandbox.bin / "python3.11").unlink()
    done = sandbox.run()
    assert done.returncode == 1
    assert "Python 3.11 was not found" in done.stderr
    assert "Remedy: " in done.stderr
    assert not (sandbox.root / ".venv").exists()


def test_another_python_is_not_taken(sandbox):
    done = sandbox.run(WRONG_VERSION="1")
    assert done.returncode == 1
    assert "Python 3.11 was not found" in done.stderr


def test_plain_python3_of_the_right_version_is_taken(sandbox):
    (sandbox.bin / "python3.11").rename(sandbox.bin / "python3")
    assert sandbox.run().returncode == 0


def test_missing_libraries_without_root_are_named(sandbox):
    sandbox.apt()
    sandbox.libraries(["libGL.so.1", "libgomp.so.1"])
    (sandbox.bin / "ffmpeg").unlink()
    done = sandbox.run()
    assert done.returncode == 1
    names = "ffmpeg libusb-1.0-0 libegl1 libx11-6"
    assert f"system packages are missing: {names}." in done.stderr
    assert f"Remedy: sudo apt-get install -y {names}\n" in done.stderr
    assert sandbox.calls("apt-get") == []
    assert not (sandbox.root / ".venv").exists()


def test_missing_compiler_and_headers_are_named(sandbox, tmp_path):
    sandbox.apt()
    (sandbox.bin / "g++").unlink()
    (tmp_path / "include" / "Python.h").unlink()
    done = sandbox.run()
    assert done.returncode == 1
    assert "sudo apt-get install -y g++ python3.11-dev\n" in done.stderr


def test_missing_libraries_elsewhere_are_named_too(sandbox):
    sandbox.libraries([])
    done = sandbox.run()
    assert done.returncode == 1
    assert all(package in done.stderr for package in LIBRARIES.values())
    assert "sudo" not in done.stderr


def test_root_installs_exactly_what_is_missing(sandbox):
    sandbox.apt()
    sandbox.command("id", "echo 0")
    sandbox.libraries([name for name in LIBRARIES if name != "libEGL.so.1"])
    done = sandbox.run()
    assert done.returncode == 0, done.stderr
    assert sandbox.calls("apt-get") == [
        "apt-get update",
        "apt-get install -y --no-install-recommends libegl1",
    ]


def test_a_failing_system_install_says_what_it_wanted(sandbox):
    sandbox.apt(status=100)
    sandbox.command("id", "echo 0")
    sandbox.libraries([])
    done = sandbox.run()
    assert done.returncode == 1
    assert "build/setup.log" in done.stderr
    assert not sandbox.stamp.exists()


LOCKED = "--no-build-isolation --require-hashes -r "
INSTALLS = [
    LOCKED + "build/lock/tools.txt",
    LOCKED + "requirements-cpu.lock",
    LOCKED + "build/lock/torchvision.txt",
    LOCKED + "build/lock/rest.txt",
    LOCKED + "build/lock/deepspeed.txt",
    "--no-build-isolation -e .",
]


def test_everything_is_installed_from_the_lock_in_this_order(sandbox):
    done = sandbox.run()
    assert done.returncode == 0, done.stderr
    calls = sandbox.calls("pip install")
    assert [line.split("--no-deps ", 1)[1] for line in calls] == INSTALLS
    parts = [sandbox.root / f"build/lock/{name}.txt" for name in PARTS]
    texts = {path.stem: path.read_text() for path in parts}
    lock = (sandbox.root / "requirements.lock").read_text().splitlines()
    assert sorted("".join(texts.values()).splitlines()) == sorted(lock)
    for part, names in PARTS.items():
        found = re.findall(r"^([a-z0-9_.-]+)==", texts[part], re.MULTILINE)
        assert names is None or found == names


PARTS = {
    "tools": ["setuptools", "wheel"],
    "torch": ["torch"],
    "torchvision": ["torchvision"],
    "deepspeed": ["deepspeed"],
    "rest": None,
}


def test_a_torch_with_cuda_gets_its_libraries(sandbox):
    assert sandbox.run(NO_CUDA="0").returncode == 0
    calls = [line.split("--no-deps ", 1)[1] for line in sandbox.calls("pip install")]
    assert calls == [*INSTALLS[:3], LOCKED + "requirements-cuda.lock", *INSTALLS[3:]]


def test_without_a_cpu_build_at_hand_torch_is_the_default_one(sandbox):
    done = sandbox.run(BROKEN_PACKAGE="requirements-cpu.lock")
    assert done.returncode == 0, done.stderr
    calls = [line.split("--no-deps ", 1)[1] for line in sandbox.calls("pip install")]
    assert calls == [*INSTALLS[:2], LOCKED + "build/lock/torch.txt", *INSTALLS[2:]]


def test_a_named_index_gives_torch_unless_there_is_a_gpu(sandbox):
    assert sandbox.run(SPACER_TORCH_INDEX="file:///wheels/cpu").returncode == 0
    named = "-c constraints.txt --index-url file:///wheels/cpu torch torchvision"
    assert sandbox.calls(named) and not sandbox.calls("lock/torch.txt")
    sandbox.stamp.unlink()
    sandbox.calls_file.unlink()
    sandbox.command("nvidia-smi")
    assert sandbox.run(SPACER_TORCH_INDEX="file:///wheels/cpu").returncode == 0
    assert sandbox.calls("lock/torch.txt") and not sandbox.calls("--index-url")
    assert not sandbox.calls("requirements-cpu.lock")


def test_an_image_gets_the_build_for_gpus_without_one(sandbox):
    done = sandbox.run(SPACER_CUDA="1", SPACER_TORCH_INDEX="file:///wheels/cpu")
    assert done.returncode == 0, done.stderr
    assert sandbox.calls("lock/torch.txt") and not sandbox.calls("--index-url")
    assert not sandbox.calls("requirements-cpu.lock")


def wheel(folder):
    """A package without code, as a file that pip installs; its SHA-256."""
    path = folder / "tiny_thing-1.0-py3-none-any.whl"
    info = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{info}/METADATA", "Name: tiny-thing\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pip_refuses_a_file_whose_hash_is_not_in_the_lock(tmp_path):
    """The options are those of set-up; the package is made here."""
    digest = wheel(tmp_path)
    install = [sys.executable, "-m", "pip", "install", "--no-deps", *LOCKED.split()]
    for sha256, works in ((digest, True), (digest[::-1], False)):
        lock = tmp_path / "x.lock"
        lock.write_text(f"tiny-thing==1.0 \\\n    --hash=sha256:{sha256}\n")
        where = ["--no-index", "--find-links", tmp_path, "--target", tmp_path / sha256]
        done = subprocess.run([*install, lock, *where], capture_output=True, text=True)
        assert (done.returncode == 0) == works, done.stderr
        assert (tmp_path / sha256).exists() == works
        assert works or "DO NOT MATCH THE HASHES" in done.stderr


def test_a_failure_shows_the_log_and_the_next_run_resumes(sandbox):
    done = sandbox.run(BROKEN_PACKAGE="deepspeed")
    assert done.returncode == 1
    assert "no matching distribution" in done.stderr
    assert '"deepspeed" failed' in done.stderr
    assert not sandbox.stamp.exists()

    done = sandbox.run()
    assert done.returncode == 0, done.stderr
    assert len(sandbox.calls("-m venv")) == 1  # kept, not built anew
    assert sandbox.stamp.exists()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", "free some space"),
        ("IncompleteRead(12 bytes read, 300 more expected)", "check the network"),
        ("ERROR: Wheel 'x' located at /tmp/x.whl is invalid.", "check the network"),
        ("ConnectionError: Max retries exceeded with url", "check the network"),
        ("PermissionError: [Errno 13] Permission denied: 'x'", "let this user write"),
        ("error: command 'g++' failed", "mend what it names"),
    ],
)
def test_the_remedy_is_that_of_the_failure(sandbox, said, remedy):
    done = sandbox.run(BROKEN_PACKAGE="deepspeed", SAID=said)
    assert done.returncode == 1
    assert f"Remedy: {remedy}" in done.stderr and "run the same" in done.stderr
    assert sandbox.run().returncode == 0


def test_a_log_that_cannot_be_written_is_one_clear_message(sandbox):
    (sandbox.root / "build").mkdir()
    log = sandbox.root / "build" / "setup.log"
    log.symlink_to("/dev/full")
    done = sandbox.run()
    assert done.returncode == 1
    assert "cannot write build/setup.log" in done.stderr
    assert "Remedy: free some space" in done.stderr
    log.unlink()
    assert sandbox.run().returncode == 0


@pytest.mark.parametrize("fault", ["python", "no pip", "path", "config", "half"])
def test_an_environment_that_is_not_usable_is_built_anew(sandbox, fault):
    assert sandbox.run().returncode == 0
    sandbox.stamp.unlink()
    venv = sandbox.root / ".venv"
    config, python = venv / "pyvenv.cfg", venv / "bin" / "python"
    own = python.read_text()
    if fault == "python":  # of another version
        stop = 'case "$*" in *sys.version_info*) exit 1 ;; esac\n'
        python.write_text(own.replace("\n", f"\n{stop}", 1))
    elif fault == "no pip":
        stop = 'case "$*" in *"pip --version"*) exit 1 ;; esac\n'
        python.write_text(own.replace("\n", f"\n{stop}", 1))
    elif fault == "path":  # another environment of this checkout
        config.write_text(config.read_text().rstrip() + "-old\n")
    elif fault == "config":
        config.unlink()
    else:
        python.unlink()
    done = sandbox.run()
    assert done.returncode == 0, done.stderr
    assert len(sandbox.calls("-m venv")) == 2 and sandbox.stamp.exists()


def test_a_link_to_another_environment_is_not_emptied(sandbox, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "pyvenv.cfg").write_text("command = python -m venv /elsewhere/.venv\n")
    (sandbox.root / ".venv").symlink_to(shared)
    done = sandbox.run()
    assert done.returncode == 1 and "Remedy: remove it" in done.stderr
    assert [path.name for path in shared.iterdir()] == ["pyvenv.cfg"]
    (sandbox.root / ".venv").unlink()
    assert sandbox.run().returncode == 0


def test_packages_that_were_cut_off_are_installed_again(sandbox):
    assert sandbox.run().returncode == 0
    sandbox.stamp.unlink()
    packages = sandbox.root / ".venv" / "lib" / "python3.11" / "site-packages"
    for name in ("whole", "cut"):
        (packages / f"{name}-1.0.dist-info").mkdir(parents=True)
    (packages / "~eplaced").mkdir()
    (packages / "whole-1.0.dist-info" / "INSTALLER").touch()
    assert sandbox.run().returncode == 0
    assert [path.name for path in packages.iterdir()] == ["whole-1.0.dist-info"]


def test_a_second_run_is_quick_and_silent(sandbox):
    assert sandbox.run().returncode == 0
    digest = hashlib.sha256(f"{os.path.realpath(sandbox.root)}\n".encode())
    for name in INPUTS:
        digest.update((sandbox.root / name).read_bytes())
    assert sandbox.stamp.read_text().strip() == digest.hexdigest()

    before, start = sandbox.calls(), time.monotonic()
    done = sandbox.run()
    assert time.monotonic() - start < 1.0
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sandbox.calls() == before


@pytest.mark.parametrize("name", INPUTS)
def test_a_changed_input_sets_up_again(sandbox, name):
    assert sandbox.run().returncode == 0
    with (sandbox.root / name).open("a") as file:
        file.write("# changed\n")
    done = sandbox.run()
    assert done.returncode == 0
    assert "setup: done" in done.stdout
    assert len(sandbox.calls("-m venv")) == 1


def test_a_moved_checkout_builds_its_environment_anew(sandbox):
    assert sandbox.run().returncode == 0
    moved = sandbox.root.with_name("another place")
    sandbox.root.rename(moved)
    sandbox.root = moved
    assert sandbox.run().returncode == 0
    assert len(sandbox.calls("-m venv")) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_checkout_is_one_clear_message(sandbox):
    sandbox.root.chmod(0o555)
    done = sandbox.run()
    sandbox.root.chmod(0o755)
    assert done.returncode == 1
    assert "cannot write in" in done.stderr
