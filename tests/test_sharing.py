"""Exported policies: what is in the folder, how it acts without Lightning, what loading refuses, and the upload."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from gymnasium.utils.env_checker import data_equivalence
from huggingface_hub import ModelCard
from torch import nn

import tests.test_every_space  # noqa: F401  registers Identity…-v0
from lightning_a3c import MLP, A3CModule, CollectorDataModule, EnvConfig, LoadedPolicy, load_policy
from lightning_a3c.collection.rollout import to_tensor
from lightning_a3c.environments.making import checked
from lightning_a3c.environments.spaces import decode_action
from lightning_a3c.rl.action_spec import DiscreteSpec
from lightning_a3c.sharing.export import Source, export_policy, find_source
from lightning_a3c.sharing.hub import NotPushed, push_folder
from lightning_a3c.system.files import NotWritable, new_folder
from tests.command_line import main
from tests.hub_stand_in import TOKEN, hub
from tests.small_runs import trainer

NEW_PROCESS = [sys.executable, "-c"]


class OwnNet(nn.Module):
    """A network that is not the package's."""

    def __init__(self, observation_shape: tuple[int, ...], num_actions: int, width: int = 8) -> None:
        super().__init__()
        self.trunk = nn.Linear(observation_shape[0], width)
        self.heads = nn.Linear(width, num_actions + 1)

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.heads(self.trunk(observations.float()).tanh())
        return outputs[:, :-1], outputs[:, -1]


class Undecided(OwnNet):
    """A network whose path depends on its numbers, which ONNX does not know."""

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, values = super().forward(observations)
        return (logits * 2 if float(logits.detach().sum()) > 1e9 else logits), values


@dataclass(frozen=True)
class Sharper(DiscreteSpec):
    """A distribution that is not the package's."""

    factor: float = 1.0


class Remembers(gymnasium.Wrapper):
    """Keeps what the environment returned last."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.observation, self.info = self.env.reset(**kwargs)
        return self.observation, self.info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.observation, reward, terminated, truncated, self.info = self.env.step(action)
        return self.observation, reward, terminated, truncated, self.info


def exported(env: EnvConfig, folder: Path, updates: int = 2, **options: Any) -> tuple[A3CModule, Path]:
    """A module after a few updates, and the folder of its policy."""
    data = CollectorDataModule(env, num_workers=0, batch_size=32, micro_batch_size=32, seed=3)
    module = A3CModule.for_data(data, **options)
    training = trainer(folder, max_steps=updates)
    training.fit(module, datamodule=data)
    training.save_checkpoint(folder / "last.ckpt")
    export_policy(find_source(folder / "last.ckpt"), folder / "policy")
    return module.eval(), folder / "policy"


@pytest.fixture(autouse=True)
def without_onnx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares each export the seconds that ONNX takes, unless the test is about the whole folder."""
    if "whole" not in request.node.name:
        monkeypatch.setattr(A3CModule, "export_onnx", lambda self, path: Path(path).touch())


@pytest.mark.parametrize(
    ("env", "options"),
    [
        (EnvConfig("CartPole-v1", num_envs=2), {"normalize_observations": True}),
        (EnvConfig("Pendulum-v1", num_envs=2), {"squash_actions": True, "log_std": "head", "normalize_rewards": True}),
        (EnvConfig("Pendulum-v1", num_envs=2), {"bound_means": True}),
        (EnvConfig("Pendulum-v1", num_envs=2, wrappers=[{"class_path": "gymnasium.wrappers.FlattenObservation"}]), {}),
        (EnvConfig("Blackjack-v1", num_envs=2), {"normalize_observations": True}),
        (EnvConfig("Taxi-v4", num_envs=2, action_mask="info"), {}),
        (EnvConfig("FrozenLake-v1", num_envs=2, kwargs={"is_slippery": False}), {}),
        (EnvConfig("IdentityDict-v0", num_envs=2), {"normalize_observations": True}),
        (EnvConfig("IdentityTuple-v0", num_envs=2), {}),
        (EnvConfig("IdentityMultiDiscrete-v0", num_envs=2), {}),
        (EnvConfig("IdentityDiscrete-v0", num_envs=2), {"network": {"class_path": "lightning_a3c.networks.MLP"}}),
    ],
    ids=lambda value: value.id if isinstance(value, EnvConfig) else "",
)
def test_an_exported_policy_acts_bit_for_bit_as_its_module(
    env: EnvConfig, options: dict[str, Any], tmp_path: Path
) -> None:
    module, folder = exported(env, tmp_path, **options)
    policy = load_policy(folder, seed=7)
    torch.manual_seed(7)
    env_as_made = Remembers(policy.make_env())
    packed = checked(env_as_made, replace(env, wrappers=[]))  # encodes observations as training does
    encoded, _ = packed.reset(seed=1)
    for greedy in [True, False] * 5:
        wanted = module.act(to_tensor(encoded).unsqueeze(0), greedy)[0].flatten().numpy()
        action = policy.act(env_as_made.observation, env_as_made.info, greedy)
        assert packed.own_action_space.contains(action)
        assert data_equivalence(action, decode_action(packed.own_action_space, wanted))
        encoded, _, terminated, truncated, _ = packed.step(wanted)
        if terminated or truncated:
            break
    packed.close()


def test_an_atari_policy_gets_the_preprocessing_that_it_was_trained_with(tmp_path: Path) -> None:
    module, folder = exported(EnvConfig("PongNoFrameskip-v4", num_envs=2), tmp_path, updates=1)
    policy = load_policy(folder)
    env = policy.make_env()
    observation, info = env.reset(seed=0)
    assert np.asarray(observation).shape == (4, 84, 84)
    wanted = module.act(to_tensor(observation).unsqueeze(0), greedy=True)
    assert policy.act(observation, info, greedy=True) == int(wanted)
    env.close()


def test_acting_loads_no_lightning_and_takes_five_lines(cartpole_run: Path, tmp_path: Path) -> None:
    main(["export", str(cartpole_run), "--to", str(tmp_path / "policy")])
    script = """
from lightning_a3c import load_policy
policy = load_policy("policy")
env = policy.make_env()
observation, info = env.reset(seed=0)
observation, reward, terminated, truncated, info = env.step(policy.act(observation, info))
import sys; print(reward, *sys.modules)
"""
    done = subprocess.run([*NEW_PROCESS, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("1.0 "), done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pytorch_lightning", "lightning_fabric", "lightning_utilities", "torchmetrics", "matplotlib"}


def test_the_whole_folder_holds_weights_card_configuration_video_and_onnx(
    cartpole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "policy"
    main(["export", str(cartpole_run / "checkpoints/last.ckpt"), "--to", str(folder)])
    assert capsys.readouterr().out == f"{folder}: the policy of {cartpole_run / 'checkpoints/last.ckpt'}\n"
    files = {"README.md", "config.yaml", "model.safetensors", "net.onnx", "policy.yaml", "replay.mp4"}
    assert {file.name for file in folder.iterdir()} == files
    assert (folder / "config.yaml").read_text() == (cartpole_run / "csv/version_0/config.yaml").read_text()
    card, text = ModelCard.load(folder / "README.md"), (folder / "README.md").read_text()
    results = json.loads((cartpole_run / "checkpoints/last.test.json").read_text())
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type) == ("CartPole-v1", "mean_reward")
    assert result.metric_value == f"{results['test/return_mean']:.2f} +/- {results['test/return_std']:.2f}"
    assert card.data.library_name == "lightning-a3c"
    assert f"{results['test/return_mean_low']:.2f} … {results['test/return_mean_high']:.2f}" in text
    assert "load_policy" in text
    assert all(f"`{name}`" in text for name in files)


def test_the_shared_configuration_starts_a_new_run(cartpole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(cartpole_run, run := tmp_path / "runs/resumed/1")
    config = run / "csv/version_0/config.yaml"
    config.write_text(config.read_text().replace("\nckpt_path: null\n", "\nckpt_path: last\n"))
    main(["export", str(run / "checkpoints/last.ckpt"), "--to", str(tmp_path / "policy")])
    assert yaml.safe_load((tmp_path / "policy/config.yaml").read_text())["ckpt_path"] is None


def test_a_checkpoint_without_a_run_and_a_test_is_exported_with_a_note(
    cartpole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alone.ckpt").write_bytes((cartpole_run / "checkpoints/last.ckpt").read_bytes())
    main(["export", str(tmp_path / "alone.ckpt"), "--to", str(tmp_path / "policy"), "--video"])
    assert "no results in the model card: test the checkpoint first" in capsys.readouterr().out
    assert not (tmp_path / "policy/config.yaml").exists()
    assert (tmp_path / "policy/replay.mp4").stat().st_size > 1000
    assert "Not tested yet" in (tmp_path / "policy/README.md").read_text()


def test_the_example_of_a_model_card_runs(tmp_path: Path) -> None:
    wrapper = {"class_path": "tests.test_sharing.Remembers"}
    _, folder = exported(EnvConfig("CartPole-v1", num_envs=2, wrappers=[wrapper]), tmp_path, updates=1)
    text = (folder / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "make_env(trust=True)" in example
    names: dict[str, Any] = {}
    exec(example.replace("FOLDER", str(folder)), names)
    assert names["action"] in (0, 1)


def test_a_run_without_csv_logs_gives_the_newest_checkpoint_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    (folder / "earlier-1").mkdir(parents=True)
    for number, name in enumerate(["a.ckpt", "b.ckpt", "earlier-1/c.ckpt"]):
        (folder / name).touch()
        os.utime(folder / name, (number, number))
    assert find_source(tmp_path / "run").checkpoint == folder / "b.ckpt"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/d.ckpt").touch()
    with pytest.raises(ValueError, match=r"holds no metrics\.csv"):  # two runs
        find_source(tmp_path)


def test_export_refuses_a_folder_with_something_in_it(cartpole_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit, match="already exists and is not an empty folder; choose another place"):
        main(["export", str(cartpole_run), "--to", str(tmp_path)])
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_export_that_fails_leaves_nothing(
    cartpole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: A3CModule, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(A3CModule, "export_onnx", fail)
    with pytest.raises(SystemExit, match=r"cannot write .*: No space left on device"):
        main(["export", str(cartpole_run), "--to", str(tmp_path / "policy")])
    assert not list(tmp_path.iterdir())


def test_a_new_folder_keeps_an_empty_one_that_is_there(tmp_path: Path) -> None:
    number = tmp_path.stat().st_ino
    with new_folder(tmp_path) as partial:
        (partial / "file").write_text("text")
        assert not (tmp_path / "file").exists()
    assert tmp_path.stat().st_ino == number
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    with pytest.raises(NotWritable, match="not an empty folder"), new_folder(tmp_path):
        pass


def test_without_onnx_the_folder_is_whole_otherwise(
    cartpole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def need_onnxscript(self: A3CModule, path: Path) -> None:
        raise ModuleNotFoundError("No module named 'onnxscript'")

    with monkeypatch.context() as lacking:
        lacking.setattr(A3CModule, "export_onnx", need_onnxscript)
        notes = export_policy(find_source(cartpole_run), tmp_path / "lacking")
    assert notes == ["no net.onnx: No module named 'onnxscript'; pip install \"lightning-a3c[onnx]\""]
    assert "net.onnx" not in (tmp_path / "lacking/README.md").read_text()
    network = {"class_path": "tests.test_sharing.Undecided"}
    _, folder = exported(EnvConfig("CartPole-v1", num_envs=2), tmp_path, updates=1, network=network)
    capfd.readouterr()
    notes = export_policy(find_source(tmp_path / "last.ckpt"), tmp_path / "undecided")
    assert notes[0].startswith("no net.onnx: PyTorch cannot export this network: ")
    assert "\n" not in notes[0]
    assert "def forward" not in capfd.readouterr().err
    for place in (folder, tmp_path / "lacking"):
        assert {"README.md", "model.safetensors", "policy.yaml"} <= {file.name for file in place.iterdir()}


@pytest.mark.parametrize(("source", "said"), [("no", "does not exist"), ("", "holds no metrics.csv")])
def test_what_cannot_be_exported_is_named_in_one_line(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=said) as stop:
        main(["export", str(tmp_path / source), "--to", str(tmp_path / "policy")])
    assert "\n" not in str(stop.value.code)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_knows_no_task_is_refused(tmp_path: Path) -> None:
    training = trainer(tmp_path)
    training.strategy.connect(A3CModule(observation_shape=(4,), num_actions=2))
    training.save_checkpoint(tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match="does not say which environment it plays; make the module with"):
        export_policy(Source(tmp_path / "bare.ckpt", None, None, None), tmp_path / "policy")
    assert not (tmp_path / "policy").exists()


def test_a_foreign_network_is_loaded_only_if_the_caller_gives_it(tmp_path: Path) -> None:
    spec = {"class_path": "tests.test_sharing.OwnNet", "init_args": {"width": 16}}
    module, folder = exported(EnvConfig("CartPole-v1", num_envs=2), tmp_path, network=spec)
    with pytest.raises(ValueError, match=r"tests\.test_sharing\.OwnNet, .* load_policy\(folder, network=OwnNet"):
        load_policy(folder)
    assert "from tests.test_sharing import OwnNet" in (folder / "README.md").read_text()
    observation = np.ones(4, np.float32)
    for network in (OwnNet, OwnNet((4,), 2, width=16)):
        policy = load_policy(folder, network=network)
        assert policy.act(observation, greedy=True) == int(module.act(torch.ones(1, 4), greedy=True))
    with pytest.raises(ValueError, match="does not hold the weights of this policy's network"):
        load_policy(folder, network=MLP((4,), 2))


def test_a_foreign_distribution_is_loaded_only_if_the_caller_gives_it(tmp_path: Path) -> None:
    spec = {"class_path": "tests.test_sharing.Sharper", "init_args": {"factor": 3.0}}
    module, folder = exported(EnvConfig("CartPole-v1", num_envs=2), tmp_path, action_spec=spec)
    with pytest.raises(ValueError, match=r"tests\.test_sharing\.Sharper, .* load_policy\(folder, action_spec=Sharper"):
        load_policy(folder)
    assert 'load_policy("FOLDER", action_spec=Sharper)' in (folder / "README.md").read_text()
    policy = load_policy(folder, action_spec=Sharper)
    assert policy.net.action_spec == module.action_spec
    assert policy.act(np.ones(4, np.float32), greedy=True) == int(module.act(torch.ones(1, 4), greedy=True))


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(EnvConfig("CartPole-v1", num_envs=2), tmp_path_factory.mktemp("plain"))[1]


@pytest.fixture
def damaged(plain_folder: Path, tmp_path: Path) -> Any:
    """Makes a copy of a policy with some values changed."""

    def change(name: str = "damaged", **values: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes((plain_folder / "model.safetensors").read_bytes())
        description = yaml.safe_load((plain_folder / "policy.yaml").read_text()) | values
        (folder / "policy.yaml").write_text(yaml.safe_dump(description))
        return folder

    return change


@pytest.mark.parametrize(
    "class_path",
    [
        "os.system",
        "torch.nn.Linear",
        "lightning_a3c.rl.networks.import_module",
        "lightning_a3c.rl.networks.nn.Linear",
        "lightning_a3c.viewing.video.subprocess.run",
        "lightning_a3c_evil.Net",
    ],
)
def test_no_class_path_of_a_policy_is_called_unless_it_is_a_network_of_this_package(
    class_path: str, damaged: Any
) -> None:
    for spec in (
        {"class_path": class_path},
        {"class_path": "lightning_a3c.MLP", "init_args": {"x": {"class_path": class_path}}},
    ):
        folder = damaged(network=spec)
        with pytest.raises(ValueError, match="is not part of this package and is not run"):
            load_policy(folder)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": 99, "version": "9.0"}, r"written by lightning-a3c 9\.0; install that release or a newer one"),
        ({"format": None}, "does not say its format"),
        ({"options": {"unknown": 1}}, "is damaged"),
        ({"num_actions": 3}, "does not hold the weights"),
    ],
)
def test_a_damaged_or_newer_policy_is_named(values: dict[str, Any], said: str, damaged: Any) -> None:
    with pytest.raises(ValueError, match=said):
        load_policy(damaged(**values))


def test_a_folder_without_a_policy_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds no exported policy \(no policy.yaml\); lightning-a3c export writes one"
    ):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ({"env_id": "evil:Corridor-v0"}, "module evil"),
        ({"env_id": "CartPole-v1", "wrappers": [{"class_path": "subprocess.Popen"}]}, "subprocess.Popen"),
        ({"env_id": "CartPole-v1", "wrappers": [{"class_path": "gymnasium.make"}]}, "gymnasium.make"),
    ],
)
def test_make_env_imports_nothing_that_a_policy_only_names(task: dict[str, Any], named: str) -> None:
    policy = LoadedPolicy(MLP((4,), 2), {"observation_shape": [4], "num_actions": 2} | task)
    with pytest.raises(ValueError, match=rf"\({named}\); if you trust it: make_env\(trust=True\)"):
        policy.make_env()


def test_observations_and_masks_that_do_not_fit_are_named(plain_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"it has the shape \(3,\), not \(4,\)"):
        load_policy(plain_folder).act(np.zeros(3, np.float32))
    task = {"env_id": "Taxi-v4", "action_mask": "info", "num_actions": 2, "observation_shape": [7]}
    task["observation_space"] = {"kind": "Discrete", "n": 5, "start": 0}
    policy = LoadedPolicy(MLP((5,), 2), task)
    with pytest.raises(ValueError, match="the action mask is missing"):
        policy.act(3)
    with pytest.raises(ValueError, match=r"the action mask has the shape \(3,\); \(2,\) or \(B, 2\) is needed"):
        policy.act(3, {"action_mask": [1, 1, 1]})


def test_a_policy_with_memory_remembers_until_it_is_reset(tmp_path: Path) -> None:
    data = CollectorDataModule(
        EnvConfig("CartPole-v1", num_envs=2), num_workers=0, n_steps=2, micro_batch_size=4, batch_size=4
    )
    module = A3CModule.for_data(data, network={"class_path": "lightning_a3c.RecurrentNetwork"})
    fitting = trainer(tmp_path, max_steps=1)
    fitting.fit(module, datamodule=data)
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    export_policy(find_source(tmp_path / "last.ckpt"), tmp_path / "policy")
    assert "policy.reset()" in (tmp_path / "policy" / "README.md").read_text()
    policy = load_policy(tmp_path / "policy")
    seen = torch.randn(5, 4).numpy()
    state, expected = None, []
    for observation in seen:
        _, state = module.act(module.encode(observation), state=state)
        expected.append(state)
    for _ in range(2):
        for observation, after in zip(seen, expected, strict=True):
            policy.act(observation)
            assert torch.equal(policy._memory.state, after)
        policy.reset()


def test_push_uploads_the_folder_with_the_library_s_own_login(plain_folder: Path, tmp_path: Path) -> None:
    with hub() as server:
        variables = {"HF_ENDPOINT": server.address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)}
        done = push_by_command(plain_folder, variables)
        refused = push_by_command(plain_folder, variables | {"HF_TOKEN": "hf_wrong"})
    assert (done.returncode, done.stdout) == (0, f"{server.address}/user/name\n"), done.stderr
    assert server.repositories == [{"name": "name", "organization": "user"}]
    assert server.files == {file.name: file.read_bytes() for file in plain_folder.iterdir()}
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("lightning-a3c push: the Hub refused user/name: ")
    assert "Traceback" not in refused.stderr
    assert "hf_wrong" not in refused.stderr + refused.stdout
    assert TOKEN not in done.stderr + done.stdout


def test_push_sends_large_files_to_their_storage_and_commits_nothing_if_that_refuses(
    plain_folder: Path, tmp_path: Path
) -> None:
    with hub() as server:
        server.large_from = 5_000
        # the library's other way to send them, Xet, is a protocol of compiled code that no stand-in speaks
        variables = {"HF_ENDPOINT": server.address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path)}
        variables["HF_HUB_DISABLE_XET"] = "1"
        server.is_full = True
        refused = push_by_command(plain_folder, variables)
        assert server.files == {}
        server.is_full = False
        done = push_by_command(plain_folder, variables)
    assert done.returncode == 0, done.stderr
    contents = {file.name: file.read_bytes() for file in plain_folder.iterdir()}
    assert server.files == contents
    large = {content for content in contents.values() if len(content) >= 5_000}
    assert contents["model.safetensors"] in large
    assert {hashlib.sha256(content).hexdigest(): content for content in large} == server.stored
    assert refused.returncode == 1
    (reason,) = re.findall(r"^lightning-a3c push: (.*)$", refused.stderr, re.MULTILINE)
    assert re.match(r"the Hub refused user/name: Error while uploading '[\w.]+' to the Hub\. .*403", reason)
    assert "Traceback" not in refused.stderr


def push_by_command(folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightning_a3c", "push", str(folder), "--repo", "user/name"]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)


def test_push_without_a_login_a_policy_or_a_repository_is_one_line(
    plain_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(NotPushed, match="nobody is logged in to the Hugging Face Hub; run `hf auth login`"):
        push_folder(plain_folder, "user/name")
    with pytest.raises(NotPushed, match="--repo must be user/name, got 'name'"):
        push_folder(plain_folder, "name")
    with pytest.raises(SystemExit, match=r"lightning-a3c push: .* holds no exported policy"):
        main(["push", str(tmp_path), "--repo", "user/name"])


def test_push_names_a_package_that_is_missing(plain_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(NotPushed, match=r'huggingface_hub is not installed; pip install "lightning-a3c\[hub\]"'):
        push_folder(plain_folder, "user/name")
