"""The command line as users type it."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.command_line import lightning_a3c, main

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SUITE = sorted(f"{path.parent.name}/{path.stem}" for path in (ROOT / "configs/suite").glob("*/*.yaml"))
PONG = f"--config={ROOT / 'configs/pong_data_fast.yaml'}"


@pytest.fixture(autouse=True)
def no_arguments_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lightning-a3c"])


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_config_parses_and_its_values_can_be_overridden(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data.discount=0.5", "--optimizer.init_args.lr=0.125", "--data.env.num_envs=3"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={path}", *arguments, "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    own = yaml.safe_load(path.read_text())
    assert config["data"]["discount"] == 0.5
    assert config["data"]["env"]["num_envs"] == 3
    assert config["optimizer"]["init_args"]["lr"] == 0.125
    assert config["data"]["micro_batch_size"] == own["data"]["micro_batch_size"]
    assert config["trainer"]["devices"] == 1  # Lightning's default is all of them


@pytest.mark.parametrize("part", SUITE)
def test_every_environment_of_the_suite_changes_its_family_in_what_it_names_only(
    part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    family = f"suite/{part.split('/')[0]}"
    values = []
    for names in ([family], [family, f"suite/{part}"]):
        with pytest.raises(SystemExit) as stop:
            main(["fit", *(f"--config={name}" for name in names), "--print_config"])
        assert stop.value.code == 0
        values.append(yaml.safe_load(capsys.readouterr().out))
    own = yaml.safe_load((ROOT / f"configs/suite/{part}.yaml").read_text())
    assert {*own} <= {"data", "lr_scheduler", "model", "network", "trainer"}
    assert {*own.get("model", {})} <= {"entropy_updates"}  # which belongs to the budget
    assert own.get("network", {}) in ({}, {"init_args": {"num_symbols": 11}})  # a fact of MiniGrid
    for section in own:
        _merge(values[0][section], own[section])
    assert values[1] == values[0]


def _merge(base: dict[str, object], over: dict[str, object]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(below := base.get(key), dict) and below:
            _merge(below, value)
        else:
            base[key] = value


def test_the_seed_config_has_the_constants_of_the_seed() -> None:
    config = yaml.safe_load((ROOT / "configs/pong_data.yaml").read_text())
    data = config["data"]
    assert data["env"] == {"id": "PongNoFrameskip-v4", "num_envs": 8}
    assert (data["num_workers"], data["n_steps"], data["discount"]) == (4, 4, 0.99)
    assert (data["micro_batch_size"], data["batch_size"]) == (32, 128)
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "eps": 1e-3, "fused": True}}
    assert config["optimizer"] == adam
    assert config["model"] == {"entropy_weight": 0.01}
    assert config["trainer"]["gradient_clip_val"] == 0.1


def test_a_run_is_saved_resumed_validated_and_tested(tmp_path: Path) -> None:
    config = f"--config={ROOT / 'configs/cartpole_data.yaml'}"
    small = [config, "--data.num_workers=1", "--data.updates_per_epoch=20", "--data.eval_episodes=4"]
    first = lightning_a3c("fit", *small, "--trainer.max_steps=30", "--trainer.log_every_n_steps=10", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Playing env_id CartPole-v1" in first.stderr
    assert "return_100" in first.stderr
    assert "steps/s" in first.stderr
    run = tmp_path / "runs" / "cartpole_data" / "1"
    assert {path.name for path in (run / "csv" / "version_0").iterdir()} >= {"config.yaml", "metrics.csv"}
    assert list((run / "tensorboard" / "version_0").glob("events*"))
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 30

    again = lightning_a3c("fit", *small, "--trainer.max_steps=50", "--ckpt_path=last", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    newest = max((run / "checkpoints").glob("last*.ckpt"), key=lambda path: path.stat().st_mtime)
    resumed = torch.load(newest, weights_only=True)
    assert resumed["global_step"] == 50
    assert resumed["progress"]["env_steps"] > saved["progress"]["env_steps"]

    for command, prefix in (("validate", "val"), ("test", "test")):
        done = lightning_a3c(command, *small, f"--ckpt_path={newest}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{prefix}/return_mean" in done.stdout
    assert [path.name for path in run.parent.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.n_steps=0"], "data.n_steps must be >= 1, got 0"),
        (["--data.discount=2"], "data.discount must be in [0, 1], got 2.0"),
        (["--data.env.id=PongNoFrameskp-v4"], "did you mean PongNoFrameskip-v4"),
        (["--data.env.action_mask=info"], "the action mask is missing"),
        (["--data.env.id=Pendulum-v1", "--data.env.action_mask=info"], "needs Discrete or MultiDiscrete actions"),
        (["--network=torch.nn.Identity"], "network Identity does not turn float32 observations"),
        ([PONG, "--network.init_args.background=300"], "background must be a grey level in 0 … 255, got 300.0"),
        ([PONG, "--network.init_args.widths=[16, 32]"], "needs three widths and a hidden_size of at least 1, got [16"),
        (["--model.entropy_weight=-1"], "entropy_weight must be >= 0, got -1.0"),
        (["--optimizer.init_args.lr=-1"], "torch.optim.Adam cannot be built with init_args {'lr': -1.0"),
        (["--lr_scheduler=LinearLR", "--lr_scheduler.init_args.start_factor=2"], "LinearLR cannot be built with init_"),
        (["--trainer.max_steps=1", "--trainer.gradient_clip_val=-1"], "gradient_clip_val must be >= 0, got -1"),
        (["--trainer.max_steps=1", "--trainer.precision=64-true"], "must be one of 32-true, bf16-mixed, got 64-true"),
        (
            ["--trainer.max_steps=1", "--trainer.precision=bf16-true"],
            "must be one of 32-true, bf16-mixed, got bf16-true",
        ),
    ],
)
def test_bad_values_end_in_one_line_that_names_them(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments])
    assert message in str(stop.value.code)
    assert "\n" not in str(stop.value.code)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("devices", [1, 3])
def test_another_number_of_learners_than_torchrun_has_started_is_refused(
    devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--trainer.devices={devices}", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"])
    assert f"trainer.devices {devices} × trainer.num_nodes 1 must be the number of processes that torchrun has" in str(
        stop.value.code
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trainer.strategy=ddp_spawn"], "ddp for several, got ddp_spawn: learners that are forked"),
        (["--trainer.strategy=ddp_fork"], "ddp for several, got ddp_fork: learners that are forked"),
        (["--trainer.strategy=ddp_notebook"], "ddp for several, got ddp_notebook: learners that are forked"),
        (["--trainer.strategy=fsdp"], "trainer.strategy must be auto for one learner or ddp for several, got fsdp"),
        (["--trainer.strategy=deepspeed_stage_2"], "or ddp for several, got deepspeed_stage_2"),
        (["--trainer.accelerator=tpu"], "trainer.accelerator must be cpu, gpu, mps or auto, got tpu"),
    ],
)
def test_learners_that_cannot_work_together_are_refused_before_a_second_process_starts(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*args: object, **kwargs: object) -> None:
        raise AssertionError("a second process starts")

    monkeypatch.setattr("subprocess.Popen", start)  # which Lightning would start it with
    refused = lightning_a3c("fit", "--trainer.accelerator=cpu", "--trainer.devices=2", *arguments, folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.count(message) == 1
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())


UNSET = {"observation_bounds": None}  # the data's


@pytest.mark.parametrize(
    ("arguments", "network"),
    [
        (["--network.init_args.background=9"], {"widths": [16, 32, 32], "hidden_size": 256, "background": 9.0} | UNSET),
        (
            ["--network.init_args.widths=[4, 8, 8]"],
            {"widths": [4, 8, 8], "hidden_size": 256, "background": 87.0} | UNSET,
        ),
        (
            ["--network=lightning_a3c.rl.networks.MLP"],
            {"hidden_sizes": [64, 64], "activation": "Tanh", "layer_norm": False, "shared": False} | UNSET,
        ),
        (["--network=null"], None),
    ],
)
def test_the_command_line_overrides_the_network_of_a_config(
    arguments: list[str], network: dict[str, object] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", PONG, *arguments, "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)["network"]
    assert (printed and printed["init_args"]) == network


@pytest.mark.parametrize(
    "argument",
    ["--data.num_wrkers=3", "--data.n_step=5", "--model.entropy=1", "--network=no.Such"],
)
def test_unknown_and_shortened_options_are_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", argument])
    assert stop.value.code == 2
    assert argument.split("=")[0] in capsys.readouterr().err


def test_unknown_keys_in_a_config_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {n_step: 5}")
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={path}"])
    assert stop.value.code == 2
    assert "n_step" in capsys.readouterr().err


def test_a_network_inside_the_model_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {network: {class_path: lightning_a3c.rl.networks.MLP}}")
    with pytest.raises(SystemExit, match=r"config.yaml sets model.network; write network at the top level"):
        main(["fit", f"--config={path}"])


def test_an_unknown_argument_of_the_network_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", PONG, "--network.init_args.depth=2"])
    assert stop.value.code == 2
    assert "Option 'depth' is not accepted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (
            "",
            ["--lr_scheduler=torch.optim.lr_scheduler.StepLR"],
            "--lr_scheduler: torch.optim.lr_scheduler.StepLR needs init_args.step_size",
        ),
        (
            "optimizer: {class_path: torch.optim.Adam, lr: 0.001}",
            [],
            "--optimizer: write the arguments of torch.optim.Adam under init_args, not beside class_path",
        ),
        ("", ["--data.env=Acrobot-v1"], "got 'Acrobot-v1'; did you mean --data.env.id Acrobot-v1?"),
    ],
)
def test_an_argument_in_the_wrong_place_is_told_the_right_one(
    config: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(f"seed_everything: 0\n{config}")
    refused = lightning_a3c("fit", "--config=c.yaml", *arguments, folder=tmp_path)
    assert refused.returncode in (1, 2)
    assert message in refused.stderr


def test_a_truncated_checkpoint_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SystemExit, match=r"cut.ckpt is not a whole checkpoint"):
        main(["fit", f"--ckpt_path={path}"])


def test_a_missing_checkpoint_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ckpt_path .*no.ckpt does not exist"):
        main(["fit", f"--ckpt_path={tmp_path / 'no.ckpt'}"])


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 64), st.integers(1, 8), st.floats(0, 1), st.floats(1e-6, 1, allow_subnormal=False), st.booleans())
def test_values_given_on_the_command_line_come_back_from_the_printed_configuration(
    capsys: pytest.CaptureFixture[str], num_envs: int, messages: int, discount: float, lr: float, synchronous: bool
) -> None:
    values = {
        "data.env.num_envs": num_envs,
        "data.micro_batch_size": num_envs,
        "data.batch_size": num_envs * messages * 4,
        "data.discount": discount,
        "data.synchronous": synchronous,
        "optimizer.init_args.lr": lr,
    }
    with pytest.raises(SystemExit) as stop:
        main(["fit", *(f"--{name}={str(value).lower()}" for name, value in values.items()), "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for name, value in values.items():
        found = printed
        for part in name.split("."):
            found = found[part]
        assert float(found) == value


def test_a_list_where_options_belong_is_refused_instead_of_ignored(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {env: [{id: Acrobot-v1}]}")
    refused = lightning_a3c("fit", "--config=c.yaml", folder=tmp_path)
    assert refused.returncode == 2
    assert "data.env must hold options, got a list" in refused.stderr


def test_a_seed_of_null_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("seed_everything: null")
    refused = lightning_a3c("fit", "--config=c.yaml", folder=tmp_path)
    assert refused.returncode == 2
    assert "--seed_everything must be in 0" in refused.stderr


def test_the_configuration_in_force_wins_over_that_of_a_named_checkpoint(tmp_path: Path) -> None:
    common = ["--data.num_workers=0", "--data.micro_batch_size=8", "--data.batch_size=8", "--trainer.accelerator=cpu"]
    lightning_a3c("fit", *common, "--trainer.max_steps=1", folder=tmp_path)
    (last,) = tmp_path.glob("runs/CartPole-v1/1/checkpoints/last.ckpt")
    changed = ["--trainer.max_steps=2", "--model.entropy_weight=0.5", f"--ckpt_path={last}"]
    assert lightning_a3c("fit", *common, *changed, folder=tmp_path).returncode == 0
    newest = max(tmp_path.glob("runs/CartPole-v1/1/csv/*/config.yaml"), key=lambda path: path.stat().st_mtime)
    assert yaml.safe_load(newest.read_text())["model"]["entropy_weight"] == 0.5
