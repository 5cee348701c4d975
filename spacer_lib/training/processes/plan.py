"""What a run starts: how many processes, their environment, their settings files.

Nothing here starts a process or writes a file: ``launch`` does.

``accelerate launch`` reads one YAML file per node, and DeepSpeed one JSON file. Several
ways to ask for several processes start only one, without an error. So every worker
compares the processes it finds with the plan (``worker.check_world``).
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PROJECT_ROOT, PathLike, read_record, to_jsonable
from spacer_lib.errors import SpacerError
from spacer_lib.training.recipe import TrainConfig, config_from_dict

MAX_CPU_WORKERS = 2  # enough to exercise every collective on a laptop
PORT = 29500  # of node 0, where several nodes meet
PLAN = "run_config.json"  # the plan in a run's folder, for workers and other nodes
STOP = "stop"  # a file in a run's folder: save a checkpoint after this step, and end
# What workers get to save a checkpoint after a SIGTERM; a whole run ends within 30 s.
GRACE_S = 25

# Variables of an outer launch (accelerate, MPI, SLURM's PMI) that overrule the YAML.
FOREIGN = re.compile(
    r"(ACCELERATE|FSDP|PET|PMI|PMIX|OMPI_COMM_WORLD|MV2_COMM_WORLD|TORCHELASTIC)_.*"
    r"|(LOCAL_|GROUP_)?RANK|(LOCAL_)?WORLD_SIZE|LOCAL_SIZE|MASTER_(ADDR|PORT)"
)


@dataclass(frozen=True)
class RunPlan:
    """One run on the machines at hand.

    Attributes
    ----------
    config : TrainConfig
    out_dir : Path
        Absolute.
    workers : int
        Processes, over all nodes.
    on_cpu : bool
    resume : bool
        Go on from the last complete checkpoint.
    """

    config: TrainConfig
    out_dir: Path
    workers: int
    on_cpu: bool
    resume: bool = False

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.config.advanced.nodes

    @property
    def zero_stage(self) -> int:
        """The DeepSpeed ZeRO stage in use; 0: no DeepSpeed."""
        return self.config.zero_stage_for(self.workers)

    @property
    def distributed_type(self) -> str:
        """accelerate's name for how the processes work together."""
        if self.zero_stage:
            return "DEEPSPEED"
        if self.workers == 1:
            return "NO"
        return "MULTI_CPU" if self.on_cpu else "MULTI_GPU"

    def record(self) -> dict[str, Any]:
        """The plan as plain values, the content of ``run_config.json``."""
        record: dict[str, Any] = to_jsonable(
            {
                "config": self.config,
                "out_dir": str(self.out_dir),
                "workers": self.workers,
                "nodes": self.nodes,
                "on_cpu": self.on_cpu,
                "zero_stage": self.zero_stage,
                "resume": self.resume,
            }
        )
        return record


def read_plan(path: PathLike) -> RunPlan:
    """The plan that a ``run_config.json`` holds."""
    run = read_record(path, "config", "out_dir", "workers")
    return RunPlan(
        config_from_dict(run["config"]),
        Path(run["out_dir"]),
        run["workers"],
        run["on_cpu"],
        run["resume"],
    )


def share_workers(config: TrainConfig, gpus_found: int) -> tuple[int, str, str]:
    """How many processes a recipe's ``gpus`` and ``advanced.nodes`` get.

    Parameters
    ----------
    config : TrainConfig
    gpus_found : int
        GPUs of this node; every node is taken to have as many.

    Returns
    -------
    workers : int
        Over all nodes.
    device : str
        ``cuda`` or ``cpu``.
    message : str
        One line that says what will run; it warns if that is not what was asked for.

    Raises
    ------
    SpacerError
        If there are GPUs, but fewer than asked for; or none, and the recipe needs them.
    """
    gpus, nodes = config.gpus, config.advanced.nodes
    on_each = f" on each of {nodes} nodes" if nodes > 1 else ""
    if gpus_found >= gpus:
        return gpus * nodes, "cuda", f"{gpus} of {gpus_found} GPUs{on_each}"
    if gpus_found:
        raise SpacerError(
            "not enough GPUs",
            kind="training.too-few-gpus",
            got=f"{gpus_found} visible",
            expected=f"gpus = {gpus}",
            remedy=f"ask for {gpus_found}, or check CUDA_VISIBLE_DEVICES",
        )
    if config.advanced.needs_gpu:
        raise SpacerError(
            f"recipe {config.recipe} needs GPUs",
            kind="training.no-gpu",
            got="none here",
            expected=f"{gpus}{on_each}",
            remedy="use a machine with GPUs, or the recipe tiny, which runs anywhere",
        )
    share = min(gpus, max(1, MAX_CPU_WORKERS // nodes))
    message = f"{share} CPU worker" + "s" * (share > 1) + on_each
    if share < gpus:
        message = f"NO GPU HERE: {gpus} GPUs were asked for, training on {message}"
    return share * nodes, "cpu", message


def meeting_point(
    nodes: int, node_rank: int, ip: str | None, port: int | None
) -> tuple[str, int] | None:
    """``(address, port)`` of node 0, or None on a single node.

    Raises
    ------
    SpacerError
        For a rank out of range, or no address of node 0.
    """
    if not 0 <= node_rank < nodes:
        raise SpacerError(
            "node_rank",
            kind="training.node-rank",
            got=node_rank,
            expected=f"0 to {nodes - 1} with nodes = {nodes}",
            remedy="count nodes from 0; set nodes to their number",
        )
    if nodes == 1:
        return None
    if not ip:
        raise SpacerError(
            "main_process_ip",
            kind="training.no-address",
            got="none",
            expected=f"the address of node 0 with nodes = {nodes}",
            remedy="give every node the same main_process_ip",
        )
    return ip, port or PORT


# ---------------------------------------------------------------- settings files


def workers_lock(out_dir: Path) -> Path:
    """What the workers of a run hold with ``sole_writer`` as long as they live."""
    return out_dir.with_name(f"{out_dir.name}.workers")


def node_name(name: str, node_rank: int) -> str:
    """A file's name for one node: ``train.log``, ``train.node1.log``, …"""
    stem, suffix = os.path.splitext(name)
    return f"{stem}.node{node_rank}{suffix}" if node_rank else name


def accelerate_settings(
    plan: RunPlan, node_rank: int, address: tuple[str, int]
) -> dict[str, Any]:
    """accelerate's settings for one node.

    Parameters
    ----------
    plan : RunPlan
    node_rank : int
    address : (str, int)
        Where the processes meet: a name or address, and a port.
    """
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        # MULTI_CPU would start a single process. MULTI_GPU starts all of them; without
        # GPUs they find out that they are MULTI_CPU.
        "distributed_type": plan.distributed_type.replace("CPU", "GPU"),
        "num_machines": plan.nodes,
        "machine_rank": node_rank,
        "num_processes": plan.workers,
        "main_process_ip": address[0],
        "main_process_port": address[1],
        "use_cpu": plan.on_cpu,
    }
    if plan.zero_stage:
        settings["deepspeed_config"] = {
            "deepspeed_config_file": str(plan.out_dir / "deepspeed.json"),
            "deepspeed_multinode_launcher": "standard",  # no ssh from node to node
            "zero3_init_flag": plan.zero_stage == 3,
        }
    else:
        settings["mixed_precision"] = "bf16" if plan.config.bf16 else "no"
    return settings


def deepspeed_settings(
    stage: int, on_cpu: bool, offload: str = "none"
) -> dict[str, Any]:
    """DeepSpeed's settings; the trainer fills in the values that are ``auto``.

    Parameters
    ----------
    stage : int
        ZeRO stage, 2 or 3.
    on_cpu : bool
    offload : str
        What lies in CPU memory: ``none``, ``optimizer`` or ``all`` (parameters too).
    """
    zero: dict[str, Any] = {
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


def extensions_of(plan: RunPlan) -> list[str]:
    """Names of the extensions that DeepSpeed compiles on first use."""
    names = []
    if plan.zero_stage and plan.on_cpu and plan.workers > 1:
        names.append("deepspeed_shm_comm")
    if plan.config.advanced.offload != "none":
        names.append("cpu_adam")
    return names


# ---------------------------------------------------------------- environment


def worker_environment(plan: RunPlan, outer: Mapping[str, str]) -> dict[str, str]:
    """Environment of the workers; ``NCCL_*``, ``GLOO_*`` and the like are kept.

    Parameters
    ----------
    plan : RunPlan
    outer : mapping
        Environment of the launching process.
    """
    environment = {k: v for k, v in outer.items() if not FOREIGN.fullmatch(k)}
    # ninja and the interpreter's own tools are looked up on PATH.
    here = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([here, environment.get("PATH", "")])
    known = filter(None, [str(PROJECT_ROOT), environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(known)
    environment["PYTHONUNBUFFERED"] = "1"
    environment["TOKENIZERS_PARALLELISM"] = "false"
    environment["TQDM_DISABLE"] = "1"  # the log is read line by line
    # Libraries warn each other about their next versions; that says nothing of the run.
    environment.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(GRACE_S + 2)
    if plan.on_cpu:
        # With two threads each, processes compete with everything else for the cores.
        environment.setdefault("OMP_NUM_THREADS", "1")
        return environment
    # The cache of generation grows by ever new sizes, which would split the memory.
    # vLLM's sleep in the same process forbids it.
    if plan.config.advanced.vllm != "colocate":
        environment.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    # A lone process that sees several GPUs would spread each batch over all of them.
    gpus = plan.workers // plan.nodes
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else list(map(str, range(gpus)))
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[:gpus])
    return environment
