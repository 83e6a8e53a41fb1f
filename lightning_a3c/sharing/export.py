"""An agent as a folder to share: weights, description, model card, configuration, video and ONNX. Trains nothing."""

from __future__ import annotations

import json
import logging
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from io import StringIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
import yaml
from safetensors.torch import save_model

from lightning_a3c.environments.config import EnvConfig
from lightning_a3c.environments.envpool_only import register_task
from lightning_a3c.environments.task import NOT_KEPT, env_config_of
from lightning_a3c.learning.agents import inner_net
from lightning_a3c.learning.earlier_runs import FOLDER as EARLIER
from lightning_a3c.learning.module import A3CModule
from lightning_a3c.sharing.model_card import Loading, model_card
from lightning_a3c.sharing.policy import (
    DESCRIPTION,
    FORMAT,
    WEIGHTS,
    foreign_code,
    foreign_distribution,
    foreign_network,
)
from lightning_a3c.system.files import new_folder, require_checkpoint
from lightning_a3c.version import __version__
from lightning_a3c.viewing.runs import Run, UnreadableRun, read_run
from lightning_a3c.viewing.video import record_episode

CARD, CONFIG, VIDEO, ONNX = "README.md", "config.yaml", "replay.mp4", "net.onnx"


class Source(NamedTuple):
    """What is exported, and the files that its run left."""

    checkpoint: Path
    config: str | None  # of the run, as text
    results: dict[str, Any] | None  # of a test of this checkpoint
    video: Path | None  # of this checkpoint


def find_source(path: str | Path) -> Source:
    """The checkpoint at `path`, or the newest one of the run in a folder, and what belongs to it.

    Raises:
        ValueError: there is no checkpoint, or the folder holds no run.
    """
    path = Path(path)
    if path.is_dir():
        if (alone := _checkpoint_without_logs(path)) is not None:
            return _source(alone, None)
        run = read_run(path)
        if run.checkpoint is None:
            raise UnreadableRun(f"run {path} holds no checkpoint (*.ckpt); train with a ModelCheckpoint")
        return _source(run.checkpoint, run)
    require_checkpoint(path)
    for folder in list(path.absolute().parents)[:2]:  # in the run's folder, or in its `checkpoints`
        try:
            return _source(path, read_run(folder))
        except UnreadableRun:
            continue
    return _source(path, None)


def export_policy(source: Source, folder: str | Path, with_video: bool = False) -> list[str]:
    """Write `source` as a new folder that `load_policy` reads; returns notes on what it lacks.

    Args:
        source: what to export.
        folder: must not exist yet, or be empty.
        with_video: record an episode if the run left no video of this checkpoint.

    Raises:
        NotWritable: `folder` holds something or cannot be written.
        ValueError: the checkpoint is not of this package, or does not say what it plays.
    """
    notes = []
    with new_folder(folder) as partial:
        module, env = load_module(source.checkpoint)
        task, network = module.hparams["task"], _network_spec(module)
        (partial / DESCRIPTION).write_text(_description(module, network), encoding="utf-8")
        save_model(module.net, str(partial / WEIGHTS), metadata={"format": "pt"})
        shutil.copymode(partial / DESCRIPTION, partial / WEIGHTS)  # safetensors lets nobody else read it
        if source.config is not None:
            (partial / CONFIG).write_text(_for_a_new_run(source.config), encoding="utf-8")
        if source.video is not None:
            shutil.copyfile(source.video, partial / VIDEO)
        elif with_video:
            record_episode(env, module.net, partial / VIDEO)
        try:
            with _quiet():
                module.export_onnx(partial / ONNX)
        except ModuleNotFoundError as error:
            notes.append(f'no {ONNX}: {str(error).rstrip(".!")}; pip install "lightning-a3c[onnx]"')
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            notes.append(f"no {ONNX}: PyTorch cannot export this network: {reason}")
        if source.results is None:
            notes.append(
                "no results in the model card: test the checkpoint first, by "
                f"lightning-a3c test --ckpt_path {source.checkpoint}"
            )
        files = [file.name for file in partial.iterdir()]
        loading = Loading(
            foreign_network(network),
            bool(list(foreign_code(task))),
            foreign_distribution(module.agent_options.action_spec),
            module.is_recurrent,
            _extra(task["env_id"]),
        )
        card = model_card(task, source.results, module.progress.env_steps, [*files, CARD], loading)
        (partial / CARD).write_text(card, encoding="utf-8")
    return notes


def _extra(env_id: str) -> str:
    """The extra of this package that brings the environment, for the model card."""
    try:
        return "envpool" if register_task(env_id) else ""
    except ValueError:  # EnvPool has the task, which lacks something on this machine
        return "envpool"


def load_module(ckpt_path: str | Path) -> tuple[A3CModule, EnvConfig]:
    """The module in a checkpoint, in evaluation mode on the CPU, and the environment that it plays.

    Raises:
        ValueError: the file is not a checkpoint of this package, or does not say what it plays.
    """
    try:
        values = torch.load(ckpt_path, map_location="meta", weights_only=True)["hyper_parameters"]
        if "_class_path" in values:  # of a user's module, which Lightning takes only once it is imported
            import_module(values["_class_path"].rpartition(".")[0])
        module = A3CModule.load_from_checkpoint(ckpt_path, map_location="cpu", weights_only=True).eval()
        if not module.hparams["task"]:
            raise ValueError(
                f"ckpt_path {ckpt_path} does not say which environment it plays; make the module with "
                "A3CModule.for_data(data)"
            )
        return module, env_config_of(module.hparams["task"])
    except ImportError as error:
        raise ValueError(f"ckpt_path {ckpt_path} needs your code: {error}; run this in its folder") from error
    except (KeyError, TypeError, UnpicklingError) as error:
        raise ValueError(f"ckpt_path {ckpt_path} is not a checkpoint of this package: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what PyTorch's exporter says about other packages and about itself."""
    level = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):  # it prints graphs that it cannot export
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _checkpoint_without_logs(folder: Path) -> Path | None:
    """The newest checkpoint in a folder that no run has logged to with a CSVLogger, if one folder holds them all."""
    checkpoints = [path for path in folder.rglob("*.ckpt") if not path.parent.name.startswith(EARLIER)]
    if next(folder.rglob("metrics.csv"), None) is not None or len({path.parent for path in checkpoints}) != 1:
        return None
    return max(checkpoints, key=lambda path: path.stat().st_mtime)


def _source(checkpoint: Path, run: Run | None) -> Source:
    stem = checkpoint.name.removesuffix(".ckpt")
    results, video = (checkpoint.with_name(f"{stem}.test.{suffix}") for suffix in ("json", "mp4"))
    return Source(
        checkpoint,
        run.config if run else None,
        json.loads(results.read_text()) if results.exists() else None,
        video if video.exists() else None,
    )


def _network_spec(module: A3CModule) -> dict[str, Any]:
    network: dict[str, Any] | None = module.hparams.get("network")
    if network is not None:
        return network
    kind = type(inner_net(module.net))  # named, since the default may be another one in a later release
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}"}


def _description(module: A3CModule, network: dict[str, Any]) -> str:
    values = {
        "format": FORMAT,
        "version": __version__,
        "network": network,
        "options": module.agent_options._asdict(),
        "observation_shape": list(module.hparams["observation_shape"]),
        "num_actions": module.hparams["num_actions"],
        "task": module.hparams["task"],
    }
    return yaml.dump(values, Dumper=_PlainDumper, sort_keys=False, default_flow_style=None, width=120)


class _PlainDumper(yaml.SafeDumper):
    """Writes plain values, each where it stands, and text in place of all others."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_PlainDumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(f"{NOT_KEPT}{value!r}"))


def _for_a_new_run(config: str) -> str:
    """The configuration without the checkpoint that this run went on from, which its reader does not have."""
    return re.sub(r"^ckpt_path: .*$", "ckpt_path: null", config, flags=re.MULTILINE)
