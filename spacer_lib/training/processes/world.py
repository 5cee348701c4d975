"""The world of a run: how many processes of which kind, and what starts them.

``accelerate launch`` reads a YAML file for each node and DeepSpeed one JSON file.
Several ways of asking for several processes quietly start a single one, so every
worker checks the world it finds itself in (``check_world``).
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path

import psutil
import torch
import yaml

from spacer_lib.artifacts import PROJECT_ROOT, make_folder, write_json, write_text
from spacer_lib.errors import SpacerError

PORT = 29500  # of node 0, where several nodes meet
JOIN_S = 600  # how long the nodes of a run wait for each other
STOP = "stop"  # a file in a run's folder: save a checkpoint after this step, and end
# What workers get to save a checkpoint after a SIGTERM; all of a run ends within 30 s.
GRACE_S = 25

# An outer launch (accelerate, MPI, SLURM's PMI) leaves these; they overrule the YAML.
FOREIGN = re.compile(
    r"(ACCELERATE|FSDP|PET|PMI|PMIX|OMPI_COMM_WORLD|MV2_COMM_WORLD|TORCHELASTIC)_.*"
    r"|(LOCAL_|GROUP_)?RANK|(LOCAL_)?WORLD_SIZE|LOCAL_SIZE|MASTER_(ADDR|PORT)"
)


def distributed_type(zero_stage, workers, on_cpu):
    """accelerate's name for the kind of world that these settings ask for."""
    if zero_stage:
        return "DEEPSPEED"
    if workers == 1:
        return "NO"
    return "MULTI_CPU" if on_cpu else "MULTI_GPU"


def check_world(accelerator, run):
    """Refuse a world other than the one ``run`` (of ``run_config.json``) asks for.

    Some launchers quietly start one process, or train without DeepSpeed, and return 0.
    """
    kind = distributed_type(run["zero_stage"], run["workers"], run["on_cpu"])
    asked = f"{run['workers']} of kind {kind}"
    found = f"{accelerator.num_processes} of kind {accelerator.distributed_type.value}"
    if found != asked:
        raise SpacerError(
            "worker processes",
            got=found,
            expected=asked,
            remedy="start through spacer_lib.training.processes.launch",
        )


# ---------------------------------------------------------------- files and command


def write_run_files(run, out_dir):
    """What all nodes share: the run's own JSON and DeepSpeed's."""
    write_json(make_folder(out_dir) / "run_config.json", run)
    if run["zero_stage"]:
        settings = deepspeed_settings(
            run["zero_stage"], run["on_cpu"], run["config"]["advanced"]["offload"]
        )
        write_json(out_dir / "deepspeed.json", settings)


def write_node_file(run, out_dir, node_rank=0, address=None):
    """accelerate's YAML for one node; returns the command that reads it.

    Parameters
    ----------
    run : dict
        Of ``run_config.json``.
    out_dir : Path
    node_rank : int
    address : tuple of (str, int), optional
        Where node 0 waits for the others; None on a single node.
    """
    ip, port = address or ("127.0.0.1", free_port())
    kind = distributed_type(run["zero_stage"], run["workers"], run["on_cpu"])
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        # MULTI_CPU would start a single process. MULTI_GPU starts all of them, and
        # without GPUs they find out by themselves that they are MULTI_CPU.
        "distributed_type": kind.replace("CPU", "GPU"),
        "num_machines": run["nodes"],
        "machine_rank": node_rank,
        "num_processes": run["workers"],
        "main_process_ip": ip,
        "main_process_port": port,
        "use_cpu": run["on_cpu"],
    }
    if run["zero_stage"]:
        settings["deepspeed_config"] = {
            "deepspeed_config_file": str(out_dir / "deepspeed.json"),
            "deepspeed_multinode_launcher": "standard",  # no ssh from node to node
            "zero3_init_flag": run["zero_stage"] == 3,
        }
    else:
        settings["mixed_precision"] = "bf16" if run["config"]["bf16"] else "no"
    path = out_dir / node_name("accelerate.yaml", node_rank)
    write_text(path, yaml.safe_dump(settings))
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(path),
        "-m",
        "spacer_lib.training.processes.worker",
        str(out_dir / "run_config.json"),
    ]


def node_name(name, node_rank):
    """``train.log`` on the first node, ``train.node1.log`` on the second."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}.node{node_rank}{suffix}" if node_rank else name


def deepspeed_settings(stage, on_cpu, offload="none"):
    """DeepSpeed's configuration; ``auto`` values are filled in by the trainer.

    Parameters
    ----------
    stage : int
        ZeRO stage, 2 or 3.
    on_cpu : bool
    offload : str
        What lies in CPU memory: ``none``, ``optimizer`` or ``all`` (parameters too).
    """
    zero = {
        "stage": stage,
        "overlap_comm": not on_cpu,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
    }
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    parts = {"none": (), "optimizer": ("optimizer",), "all": ("optimizer", "param")}
    for part in parts[offload]:
        zero[f"offload_{part}"] = {"device": "cpu", "pin_memory": not on_cpu}
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "zero_allow_untested_optimizer": True,
    }


def worker_environment(run):
    """Environment of the processes; ``NCCL_*``, ``GLOO_*`` and the like are kept."""
    environment = {k: v for k, v in os.environ.items() if not FOREIGN.fullmatch(k)}
    # ninja and the interpreter's own tools are looked up on PATH.
    here = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([here, environment.get("PATH", "")])
    known = filter(None, [str(PROJECT_ROOT), environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(known)
    environment["PYTHONUNBUFFERED"] = "1"
    environment["TOKENIZERS_PARALLELISM"] = "false"
    environment["TQDM_DISABLE"] = "1"  # the log is read line by line
    # What one library says to another about its next version is no news of the run.
    environment.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(GRACE_S + 2)
    if run["on_cpu"]:
        # Two threads per process fight over the cores with everything else.
        environment.setdefault("OMP_NUM_THREADS", "1")
        return environment
    # A lone process that sees several GPUs would spread each batch over all of them.
    gpus = run["workers"] // run["nodes"]
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    visible = visible.split(",") if visible else map(str, range(gpus))
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(list(visible)[:gpus])
    return environment


# ---------------------------------------------------------------- ports


def free_port():
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(address):
    """Wait until ``address`` (name, port) accepts connections.

    Raises
    ------
    SpacerError
        After ``JOIN_S`` seconds.
    """
    end = time.monotonic() + JOIN_S
    while True:
        try:
            socket.create_connection(address, timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SpacerError(
                    f"node 0 does not answer at {address[0]}:{address[1]}",
                    got=f"{error} for {JOIN_S} s",
                    remedy="start node 0 too, and check main_process_ip and "
                    "main_process_port",
                ) from error
        time.sleep(1)


# ---------------------------------------------------------------- compiled extensions


def extensions_of(run):
    """Names of the extensions that DeepSpeed compiles on first use."""
    several_on_cpu = run["on_cpu"] and run["workers"] > 1
    names = []
    if run["zero_stage"] and several_on_cpu:
        names.append("deepspeed_shm_comm")
    if run["config"]["advanced"]["offload"] != "none":
        names.append("cpu_adam")
    return names


def ready_extensions(names, environment, say):
    """Check that the extensions can be compiled where that is still to be done."""
    compiler = environment.get("CXX", "c++")
    if not shutil.which(compiler, path=environment["PATH"]):
        raise SpacerError(
            "training on several CPU workers, or with offload, needs a C++ compiler",
            got=f"no {compiler} on PATH",
            remedy="install one (Debian: apt-get install g++), or set gpus to 1 and "
            "offload to none",
        )
    default = Path.home() / ".cache" / "torch_extensions"
    folder = Path(environment.get("TORCH_EXTENSIONS_DIR", default))
    for lock in folder.glob("**/lock"):
        # A build that was killed leaves its lock, and the next one waits forever.
        if not _held(lock):
            lock.unlink(missing_ok=True)
    avoid_spaces(environment, folder)
    absent = [name for name in names if not any(folder.glob(f"**/{name}/*.so"))]
    if absent:
        named = " and ".join(absent)
        say(f"first start: DeepSpeed compiles {named} (about 90 s each, once)")


def avoid_spaces(environment, folder):
    """Let workers import from a path the linker can read.

    PyTorch hands the linker its own folder unquoted, so an environment below a folder
    with a space cannot compile. Through a link elsewhere it can.
    """
    site = Path(torch.__file__).parents[1]
    if not re.search(r"\s", str(site)):
        return
    if re.search(r"\s", str(folder)):
        raise SpacerError(
            "compiling DeepSpeed's CPU extensions",
            got=f"a space in {folder}",
            expected="a path without spaces",
            remedy="set TORCH_EXTENSIONS_DIR to such a folder, or set gpus to 1",
        )
    name = hashlib.sha256(str(site).encode()).hexdigest()[:12]
    link = make_folder(folder) / f"site-packages-{name}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(site)
    known = filter(None, [str(link), environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(known)


def _held(path):
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(path) in (file.path for file in process.open_files()):
                return True
    return False
