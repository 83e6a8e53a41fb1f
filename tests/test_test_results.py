"""What tests and predictions leave to look at."""

import json
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

import tests.scripted  # noqa: F401  registers SeededLength-v0
from lightning_a3c import A3CModule, CollectorDataModule, EnvConfig, SaveTestResults, WritePredictions
from tests.small_runs import serial_data, trainer

UNTRAINED = "plays untrained weights"


def test_a_test_leaves_its_results_and_a_video_beside_the_checkpoint(cartpole_run: Path) -> None:
    results = json.loads((cartpole_run / "checkpoints/last.test.json").read_text())
    assert len(results["returns"]) == len(results["lengths"]) == results["episodes"] == 4
    assert results["test/return_mean"] == pytest.approx(sum(results["returns"]) / 4)
    assert results["test/return_mean_low"] <= results["test/return_mean"] <= results["test/return_mean_high"]
    assert results["returns"] == results["lengths"]  # 1 a step
    assert (results["policy"], results["task"]["env_id"]) == ("sample", "CartPole-v1")
    assert imageio_ffmpeg.count_frames_and_secs(cartpole_run / "checkpoints/last.test.mp4")[0] > 1


def test_every_logger_that_writes_files_has_the_configuration_and_the_machine(cartpole_run: Path) -> None:
    folders = [cartpole_run / "csv/version_0", cartpole_run / "tensorboard/version_0"]
    for name in ("config.yaml", "machine.json"):
        first, second = ((folder / name).read_text() for folder in folders)
        assert first == second


def test_testing_again_gives_the_same_results(tmp_path: Path) -> None:
    module = A3CModule.for_data(serial_data())
    kept = []
    for _ in range(2):
        stream = serial_data(eval_episodes=3)
        with pytest.warns(match=UNTRAINED):
            trainer(tmp_path, SaveTestResults()).test(module, datamodule=stream, verbose=False)
        kept.append((tmp_path / "untrained.test.json").read_text())
    assert kept[0] == kept[1]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_untrained_weights_are_said_and_their_results_kept_apart(command: str, tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.zeros((3, 4), np.float32))
    stream = serial_data(eval_episodes=1, predict_observations=str(tmp_path / "o.npy"))
    module = A3CModule.for_data(stream)
    runner = trainer(tmp_path, SaveTestResults())
    with pytest.warns(match=f"{command} plays untrained weights: no checkpoint was given .*--ckpt_path"):
        getattr(runner, command)(module, datamodule=stream)
    results = [path.name for path in tmp_path.glob("*.json")]
    assert results == (["untrained.test.json"] if command == "test" else [])


def test_what_the_same_process_has_trained_is_not_called_untrained(tmp_path: Path) -> None:
    stream = serial_data(eval_episodes=1, validate_in_fit=True, micro_batch_size=8, batch_size=8, updates_per_epoch=2)
    module = A3CModule.for_data(stream)
    runner = trainer(tmp_path, SaveTestResults(), max_steps=2)
    runner.fit(module, datamodule=stream)  # its sanity check plays fresh weights, as it should
    runner.test(module, datamodule=stream, verbose=False)
    results = json.loads((tmp_path / "test.json").read_text())
    assert (results["is_untrained"], results["checkpoint"]) == (False, None)
    assert results["env_steps_trained"] == module.progress.env_steps > 0


def test_episodes_of_an_evaluation_that_was_interrupted_do_not_count_in_the_next(tmp_path: Path) -> None:
    stream = serial_data(eval_episodes=2)
    module = A3CModule.for_data(stream)
    module.evaluated.update(torch.tensor(1e6), torch.tensor(1))
    with pytest.warns(match=UNTRAINED):
        (found,) = trainer(tmp_path).test(module, datamodule=stream, verbose=False)
    assert found["test/return_max"] < 1e6


def test_part_of_a_test_is_a_fair_sample_of_it(tmp_path: Path) -> None:
    stream = CollectorDataModule(EnvConfig("SeededLength-v0", num_envs=4), num_workers=0, eval_episodes=20, seed=0)
    module = A3CModule.for_data(stream)
    for options in ({"limit_test_batches": 4}, {"limit_test_batches": 0.2}):
        with pytest.warns(match=UNTRAINED):
            (found,) = trainer(tmp_path, **options).test(module, datamodule=stream, verbose=False)
        assert found["test/length_mean"] == 6  # seeds 0 … 3 play 2, 10, 2 and 10 steps


def test_episodes_that_are_cut_off_are_said_and_counted(tmp_path: Path) -> None:
    stream = CollectorDataModule(
        EnvConfig("SeededLength-v0", num_envs=2), num_workers=0, eval_episodes=4, eval_max_steps=5, seed=0
    )
    with pytest.warns() as warned:
        trainer(tmp_path, SaveTestResults()).test(A3CModule.for_data(stream), datamodule=stream, verbose=False)
    said = [str(warning.message) for warning in warned]
    assert len([text for text in said if "did not end within data.eval_max_steps (5) env steps" in text]) == 1
    results = json.loads((tmp_path / "untrained.test.json").read_text())
    assert (results["cut_off"], results["eval_max_steps"], results["lengths"]) == (2, 5, [2, 5, 2, 5])


def test_a_bound_on_episodes_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.eval_max_steps must be >= 1, got 0"):
        serial_data(eval_max_steps=0)


def test_trying_out_a_test_or_a_prediction_leaves_no_results(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.zeros((3, 4), np.float32))
    stream = serial_data(predict_observations=str(tmp_path / "o.npy"))
    module = A3CModule.for_data(stream)
    runner = trainer(tmp_path, SaveTestResults(), WritePredictions(), fast_dev_run=True)
    with pytest.warns(match=UNTRAINED):
        runner.test(module, datamodule=stream, verbose=False)
    with pytest.warns(match=UNTRAINED):
        runner.predict(module, datamodule=stream)
    assert [path.name for path in tmp_path.iterdir()] == ["o.npy"]


def test_predictions_for_some_of_the_observations_only_are_said(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.zeros((600, 4), np.float32))
    stream = serial_data(predict_observations=str(tmp_path / "o.npy"))
    runner = trainer(tmp_path, WritePredictions(), limit_predict_batches=1)
    with (
        pytest.warns(match=UNTRAINED),
        pytest.warns(match="the first 256 of 600 predictions: .*batches is 1"),
    ):
        runner.predict(A3CModule.for_data(stream), datamodule=stream)
    assert len(np.load(tmp_path / "o.predictions.npz")["values"]) == 256


@pytest.mark.parametrize(("precision", "error"), [("32-true", 1e-6), ("bf16-mixed", 0.02)])
def test_predictions_are_the_networks_own_and_are_written_beside_the_observations(
    precision: str, error: float, tmp_path: Path
) -> None:
    observations = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    np.save(tmp_path / "o.npy", observations)
    stream = serial_data(predict_observations=str(tmp_path / "o.npy"))
    module = A3CModule.for_data(stream)
    with pytest.warns(match=UNTRAINED):
        trainer(tmp_path, WritePredictions(), precision=precision).predict(module, datamodule=stream)
    written = np.load(tmp_path / "o.predictions.npz")
    logits, values = module(torch.from_numpy(observations))
    assert written["probabilities"].dtype == written["values"].dtype == np.float32
    np.testing.assert_allclose(written["probabilities"], logits.softmax(dim=1).detach(), atol=error)
    np.testing.assert_allclose(written["values"], values.detach(), atol=10 * error)
    assert (written["actions"] == written["probabilities"].argmax(axis=1)).all()
