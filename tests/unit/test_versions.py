"""An old installation is one message, before anything is loaded or written."""

import importlib.metadata

import pytest
from support import refused

from spacer_lib.cli.evaluation import _checkpoint
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import load_config
from spacer_lib.versions import EVALUATION, TRAINING, require_versions


@pytest.fixture
def pretend(monkeypatch):
    """``pretend(transformers="5.17.0")``: that version is installed; None: absent."""
    real = importlib.metadata.version

    def installed(**versions):
        def version(name):
            if versions.get(name, "") is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions.get(name) or real(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return installed


def test_this_installation_is_new_enough():
    require_versions(TRAINING)
    require_versions(EVALUATION)


@pytest.mark.parametrize("new", ["5.23", "5.23.0.dev0", "6.0.0rc1", "5.100.1+cu130"])
def test_newer_versions_pass(pretend, new):
    pretend(transformers=new)
    require_versions(TRAINING)


def test_all_old_packages_are_named_with_what_is_wanted(pretend):
    pretend(transformers="5.17.0", trl="0.24.0", peft=None, torch="2.11.0+cu130")
    with refused("versions.too-old") as caught:
        require_versions(TRAINING)
    said = str(caught.value)
    assert "peft absent, transformers 5.17.0, trl 0.24.0" in said
    assert "'transformers>=5.23'" in said and "torch" not in said


def test_training_does_not_start_on_an_old_stack(pretend, tmp_path):
    pretend(transformers="5.17.0")
    with refused("versions.too-old", says="transformers 5.17.0"):
        launch(load_config("tiny"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluation_loads_no_model_on_an_old_stack(pretend):
    pretend(transformers="5.17.0")
    for asked in ("transformers", "vllm"):
        with refused("versions.too-old", says="'transformers>=5.19'"):
            with _checkpoint("checkpoints/tiny_warmstart", asked, None, 4, 1):
                pass
