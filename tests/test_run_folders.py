"""What a run of the command line leaves where, with real runs."""

import fcntl
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from lightning_a3c.command_line.overview import EXAMPLES
from tests.command_line import Done, lightning_a3c

SMALL = ["--data.num_workers=0", "--data.env.num_envs=2", "--data.micro_batch_size=8", "--data.batch_size=8"]
SMALL += ["--data.updates_per_epoch=30", "--data.eval_episodes=1", "--trainer.enable_model_summary=false"]
SMALL += ["--trainer.accelerator=cpu", "--trainer.log_every_n_steps=10"]

MODULE = """
from lightning_a3c import A3CModule

class Module(A3CModule):
    def __init__(self, *args, bonus: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.bonus = bonus

    def on_train_start(self):
        super().on_train_start()
        print("bonus", self.bonus, "orthogonal", self.hparams.orthogonal)
"""


def fit(folder: Path, *args: str) -> Done:
    return lightning_a3c("fit", *SMALL, *args, folder=folder)


def updates(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_two_runs_get_two_folders_and_a_users_files_stay(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    for _ in range(2):
        done = fit(tmp_path, "--trainer.max_steps=60")
        assert done.returncode == 0, done.stderr
    for number in (1, 2):
        run = tmp_path / "runs/CartPole-v1" / str(number)
        assert {path.name for path in run.iterdir()} == {"checkpoints", "csv", "tensorboard"}
        assert {path.name for path in (run / "checkpoints").iterdir()} >= {"last.ckpt", "best.ckpt"}
        assert (run / "csv/version_0/metrics.csv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "runs"}
    assert (tmp_path / "config.yaml").read_text() == "mine"

    resumed = fit(tmp_path, "--trainer.max_steps=90", "--ckpt_path=last", "--seed_everything=3")
    assert resumed.returncode == 0, resumed.stderr
    assert "is not empty" not in resumed.stderr  # Lightning's warning of a folder that is the run's own
    assert "ckpt_path last is runs/CartPole-v1/2/checkpoints/last.ckpt" in resumed.stderr
    assert updates(tmp_path / "runs/CartPole-v1/2/checkpoints/last.ckpt") == 90
    assert updates(tmp_path / "runs/CartPole-v1/1/checkpoints/last.ckpt") == 60
    assert (tmp_path / "runs/CartPole-v1/2/csv/version_1").exists()

    tested = lightning_a3c("test", "--ckpt_path=best", folder=tmp_path)  # with the run's own configuration
    assert tested.returncode == 0, tested.stderr
    assert (tmp_path / "runs/CartPole-v1/2/checkpoints/best.test.json").exists()
    for command, result in (("plot", "curves.png"), ("report", "report.html")):
        assert lightning_a3c(command, "last", folder=tmp_path).stdout.split()[0] == f"runs/CartPole-v1/2/{result}"
    played = lightning_a3c("play", "--ckpt_path=last", "--video=a.mp4", folder=tmp_path)
    assert "ckpt_path is runs/CartPole-v1/2/checkpoints/last.ckpt" in played.stdout
    _, *rows = lightning_a3c("runs", folder=tmp_path).stdout.splitlines()
    assert [row.split()[:3] for row in rows] == [  # each with the seed that it began with
        [f"runs/CartPole-v1/{number}", "CartPole-v1", "0"] for number in (1, 2)
    ]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["CartPole-v1"]


def test_a_run_without_loggers_or_under_another_name_gets_a_folder_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    done = fit(tmp_path, "--trainer.max_steps=2", "--trainer.logger=false", "--name=bare")
    assert done.returncode == 0, done.stderr
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"config.yaml", "runs/bare/1/config.yaml", "runs/bare/1/checkpoints/last.ckpt"} <= kept
    again = fit(tmp_path, "--config=runs/bare/1/config.yaml")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "runs/bare/2/checkpoints/last.ckpt").exists()  # the saved configuration knows the run's name


def test_a_run_that_is_being_written_is_not_continued_in_its_folder(tmp_path: Path) -> None:
    assert fit(tmp_path, "--trainer.max_steps=1").returncode == 0
    other = os.open(tmp_path / "runs/CartPole-v1/1", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    done = fit(tmp_path, "--trainer.max_steps=2", "--ckpt_path=last")
    os.close(other)
    assert done.returncode == 0, done.stderr
    assert "still writing to runs/CartPole-v1/1, so this run goes to runs/CartPole-v1/2" in done.stderr
    assert updates(tmp_path / "runs/CartPole-v1/1/checkpoints/last.ckpt") == 1
    assert updates(tmp_path / "runs/CartPole-v1/2/checkpoints/last.ckpt") == 2


def test_the_best_checkpoint_of_ones_own_callback_is_found(tmp_path: Path) -> None:
    callback = ["--trainer.callbacks=pytorch_lightning.callbacks.ModelCheckpoint", "--trainer.callbacks.mode=max"]
    callback += ["--trainer.callbacks.monitor=return_100", "--trainer.callbacks.save_last=true"]
    assert fit(tmp_path, *callback, "--trainer.max_steps=60").returncode == 0
    tested = lightning_a3c("test", "--ckpt_path=best", *SMALL, *callback, folder=tmp_path)
    assert tested.returncode == 0, tested.stderr
    assert re.search(r"ckpt_path best is runs/CartPole-v1/1/checkpoints/epoch=\d+-step=\d+.ckpt", tested.stderr)


def test_a_short_run_says_where_its_files_are_and_how_it_ended_and_nothing_for_others(tmp_path: Path) -> None:
    done = fit(tmp_path, "--trainer.max_steps=12")
    assert done.returncode == 0, done.stderr
    assert "Run folder: runs/CartPole-v1/1\n" in done.stderr
    assert re.search(r"return_100 .* updates 12 ", done.stderr)
    assert "💡" not in done.stderr
    assert "LeafSpec" not in done.stderr


def test_a_run_named_without_its_folder_or_misspelt_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "runs/pong_data/1").mkdir(parents=True)
    for name, hint in (
        ("pong_data", "there is no folder pong_data; did you mean runs/pong_data?"),
        ("runs/png_data/1", "there is no folder runs/png_data/1; did you mean runs/pong_data/1?"),
        ("zzz", "there is no folder zzz; `lightning-a3c runs` lists the runs"),
    ):
        done = lightning_a3c("plot", name, folder=tmp_path)
        assert done.stderr == f"lightning-a3c plot: {hint}\n"
        assert done.returncode == 1


@pytest.mark.parametrize("command", ["test", "play", "plot", "report", "runs"])
def test_a_name_without_a_run_ends_in_one_line(command: str, tmp_path: Path) -> None:
    named = {"test": ["--ckpt_path=best"], "play": ["--ckpt_path=last", "--video=a.mp4"], "runs": []}
    done = lightning_a3c(command, *named.get(command, ["last"]), folder=tmp_path)
    assert done.returncode == 1
    assert "there is no" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config=cartpole_dta"], "config cartpole_dta does not exist; did you mean cartpole_data?"),
        (["--config=configs/taxi_data.yaml"], "did you mean taxi_data, which comes with the package?"),
        (["--name=a/b"], "--name must be the name of a folder in runs, without a path, got 'a/b'"),
        (["--seeds=0"], "--seeds must be the number of runs, at least 1, got '0'"),
        (["--seeds"], "--seeds must be the number of runs, at least 1, got ''"),
        (["--seeds=2", "--jobs=0"], "--jobs must be the number of runs at a time, from 1 to the "),
        (["--seeds=2", "--jobs=10000"], " cores, got '10000'"),
        (["--jobs=2"], "jobs goes with --seeds, as in `lightning-a3c fit --seeds 5 --jobs 2`"),
        (["--seeds=2", "--ckpt_path=last"], "--seeds starts new runs, so it takes no --ckpt_path"),
        (["--seeds=2", "--seed_everything=true"], "so seed_everything must be a number, got true"),
        (["--network.init_args.hidden_sizes=[8]"], "name the network too, as in --network lightning_a3c.MLP"),
        (["--network=MLPP"], "did you mean lightning_a3c.MLP?"),
        (["--model=A3CModul"], "did you mean A3CModule?"),
        (["--model=lightning_a3c.MLP"], "lightning_a3c.MLP is no subclass of A3CModule"),
    ],
)
def test_a_wrong_name_ends_in_one_line_before_anything_is_written(
    args: list[str], message: str, tmp_path: Path
) -> None:
    refused = lightning_a3c("fit", *args, folder=tmp_path)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_list_of_runs_names_the_configuration_of_a_run_with_a_name_of_its_own(tmp_path: Path) -> None:
    done = fit(tmp_path, "--config=cartpole_data", "--name=mine", "--trainer.max_steps=40")
    assert done.returncode == 0, done.stderr
    _, row = lightning_a3c("runs", folder=tmp_path).stdout.splitlines()
    assert row.split()[:3] == ["runs/mine/1", "cartpole_data", "0"]


def test_a_checkpoint_of_another_environment_is_refused_before_anything_is_written(
    cartpole_run: Path, tmp_path: Path
) -> None:
    refused = fit(tmp_path, f"--ckpt_path={cartpole_run / 'checkpoints/last.ckpt'}", "--data.env.id=Acrobot-v1")
    assert refused.returncode == 1
    assert "trained with observation_shape (4,), this run has (6,)" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_place_without_folders_is_refused_in_one_line(tmp_path: Path) -> None:
    refused = fit(tmp_path, "--trainer.default_root_dir=/proc/nowhere")
    assert refused.returncode == 1
    assert "cannot write /proc/nowhere/CartPole-v1: No such file or directory; choose another place" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_configuration_is_copied_once_and_the_copy_then_found_by_name(tmp_path: Path) -> None:
    assert lightning_a3c("configs", "--copy=cartpole_data", folder=tmp_path).stdout == "cartpole_data.yaml\n"
    copy = tmp_path / "cartpole_data.yaml"
    copy.write_text(copy.read_text().replace("n_steps: 16", "n_steps: 5"))
    over = lightning_a3c("configs", "--copy=suite/continuous/hopper", folder=tmp_path).stdout
    assert over.endswith("lightning-a3c fit --config suite/continuous --config hopper.yaml\n")
    refused = lightning_a3c("configs", "--copy=cartpole_data", folder=tmp_path)
    assert "cartpole_data.yaml already exists and stays" in refused.stderr
    printed = lightning_a3c("fit", "--config=cartpole_data", "--print_config", folder=tmp_path).stdout
    assert yaml.safe_load(printed)["data"]["n_steps"] == 5
    unknown = lightning_a3c("configs", "--copy=cartpol_data", folder=tmp_path)
    assert "there is no configuration cartpol_data; did you mean cartpole_data?" in unknown.stderr


def test_a_module_of_the_current_folder_trains_beside_the_keys_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "my_own.py").write_text(MODULE)
    sys.modules.pop("my_own", None)
    own = ["--config=cartpole_data", "--model=my_own.Module", "--model.bonus=2"]
    done = fit(tmp_path, *own, "--trainer.max_steps=1")
    assert done.returncode == 0, done.stderr
    assert "bonus 2.0 orthogonal True" in done.stdout
    saved = yaml.safe_load((tmp_path / "runs/cartpole_data/1/csv/version_0/config.yaml").read_text())
    assert saved["model"]["class_path"] == "my_own.Module"
    tested = lightning_a3c("test", "--ckpt_path=last", folder=tmp_path)
    assert tested.returncode == 0, tested.stderr
    sys.modules.pop("my_own")
    played = lightning_a3c("play", "--ckpt_path=last", "--video=a.mp4", folder=tmp_path)
    assert played.returncode == 0, played.stderr
    sys.modules.pop("my_own")


START = "import os, sys; sys.path.append(os.getcwd()); from lightning_a3c.__main__ import main; main()"


def test_seeds_run_one_after_the_other_in_their_own_folders_and_are_summarized(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", START, "fit", *SMALL, "--seeds=2", "--seed_everything=7"]
    done = subprocess.run([*command, "--trainer.max_steps=40"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    header, first, second, mean = done.stdout.splitlines()[-4:]
    assert header.split()[:2] == ["run", "seed"]
    assert first.split()[:2] == ["runs/CartPole-v1/1", "7"]
    assert second.split()[:2] == ["runs/CartPole-v1/2", "8"]
    assert re.fullmatch(r"mean return_100 of 2 runs: [\d.]+, 95 % bootstrap interval [\d.]+ … [\d.]+", mean)


def test_seeds_side_by_side_divide_the_cores_and_say_whose_line_is_whose(tmp_path: Path) -> None:
    (tmp_path / "cores.py").write_text(
        "import os\nfrom pytorch_lightning import Callback\nclass Cores(Callback):\n"
        "    def on_train_end(self, *_):\n        print('cores', *sorted(os.sched_getaffinity(0)))\n"
    )
    command = [sys.executable, "-P", "-c", START, "fit", *SMALL, "--seeds=3", "--jobs=2", "--trainer.max_steps=40"]
    command += ["--trainer.callbacks=cores.Cores"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, first, second, third, mean = done.stdout.splitlines()
    assert [line.split()[1] for line in (first, second, third)] == ["0", "1", "2"]
    assert mean.startswith("mean return_100 of 3 runs: ")
    assert {path.name for path in tmp_path.glob("runs/CartPole-v1/*")} == {"1", "2", "3"}
    shares = {re.sub(r"\[seed \d\] ", "", line) for line in done.stdout.splitlines() if "] cores " in line}
    cores = sorted(os.sched_getaffinity(0))
    halves = cores[: len(cores) // 2], cores[len(cores) // 2 :]
    assert shares == {f"cores {' '.join(map(str, half))}" for half in halves}
    of_second = [line for line in done.stdout.splitlines() if line.startswith("[seed 1] ")]
    assert any("return_100" in line for line in of_second)
    assert done.stderr == ""


def test_a_signal_ends_all_seeds_that_run_side_by_side_and_each_leaves_a_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", START, "fit", *SMALL, "--seeds=3", "--jobs=2"]
    command += ["--trainer.max_time=00:00:02:00"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 150
    while len(list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, output
    assert output.count("Detected KeyboardInterrupt") == 2
    assert "[seed 2]" not in output
    assert {path.name for path in tmp_path.glob("runs/CartPole-v1/*")} == {"1", "2"}


def test_runs_side_by_side_end_in_silence_when_nobody_reads_what_they_print(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", START, "fit", *SMALL, "--seeds=2", "--jobs=2", "--trainer.max_steps=20"]
    shell = f"{shlex.join(command)} | head -n 1"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.startswith("[seed ")
    assert done.stderr == ""


@pytest.mark.slow
def test_a_run_of_several_seeds_may_have_several_learners(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise ImportError")  # hides no installed module, in the second learner neither
    learners = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_steps=10"]
    command = [sys.executable, "-P", "-c", START, "fit", *SMALL, *learners, "--seeds=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("runs/CartPole-v1/*")] == ["1"]


def test_a_signal_ends_all_seeds_and_the_run_under_way_leaves_a_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", START, "fit", *SMALL, "--seeds=3", "--trainer.max_time=00:00:02:00"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("runs/*/1/checkpoints/last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, output
    assert "run 1 of 3" in output
    assert "run 2 of 3" not in output
    assert [path.name for path in tmp_path.glob("runs/CartPole-v1/*")] == ["1"]


def test_completion_knows_all_commands_or_names_the_package_it_needs(tmp_path: Path) -> None:
    done = lightning_a3c("--print_completion", "shtab-bash", folder=tmp_path)
    if importlib.util.find_spec("shtab") is None:
        assert "--print_completion needs shtab: pip install 'lightning-a3c[completion]'" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    (commands,) = re.findall(r"^_shtab_lightning_a3c_subparsers=\((.*)\)$", done.stdout, re.MULTILINE)
    assert {command.strip("'") for command in commands.split()} == EXAMPLES.keys()
    assert "--data.n_steps" in done.stdout
