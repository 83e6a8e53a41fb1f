"""What is read from a command line before it is parsed."""

from pathlib import Path

import pytest

from lightning_a3c.command_line.arguments import (
    find_config,
    name_from_configs,
    names_a_model,
    values_of,
    wants_seeds,
    with_config_of_run,
    with_paths_of_configs,
    without,
)
from lightning_a3c.command_line.shipped_configs import shipped_configs, summary

ROOT = Path(__file__).parents[1]


def test_values_of_an_option_are_found_in_both_spellings_and_in_order() -> None:
    args = ["fit", "-c", "a", "--config=b", "--x", "--config", "c"]
    assert values_of(args, "-c", "--config") == ["a", "b", "c"]
    assert without(["fit", "--seeds", "5", "--x=1", "--seeds=3"], "--seeds") == ["fit", "--x=1"]


def test_every_shipped_configuration_has_a_name_and_says_what_it_is() -> None:
    configs = shipped_configs()
    assert {*configs.values()} == {*(ROOT / "configs").rglob("*.yaml")}
    assert configs["suite/grid/doorkey"] == ROOT / "configs/suite/grid/doorkey.yaml"
    for path in configs.values():
        assert path.read_text().startswith("# ")
        assert 10 < len(summary(path)) < 130


def test_no_shipped_configuration_puts_two_runs_into_one_folder() -> None:
    for path in shipped_configs().values():
        assert not {"save_dir", "dirpath"} & {*path.read_text().replace(":", " ").replace("{", " ").split()}


def test_a_name_is_a_file_then_a_file_without_its_suffix_then_a_shipped_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("taxi_data") == str(shipped_configs()["taxi_data"])
    (tmp_path / "taxi_data.yaml").touch()
    assert find_config("taxi_data") == "taxi_data.yaml"
    (tmp_path / "taxi_data").touch()
    assert find_config("taxi_data") == "taxi_data"
    assert find_config("nothing") == "nothing"
    assert find_config("suite/grid/doorkey") == str(shipped_configs()["suite/grid/doorkey"])
    assert find_config("other/taxi_data") == "other/taxi_data"
    args = ["fit", "--config", "pong_data", "--config=pong_grad", "--config", "{data: {n_steps: 3}}"]
    paths = with_paths_of_configs(args)
    assert [Path(path).name for path in paths[2:4]] == ["pong_data.yaml", "pong_grad.yaml"]
    assert paths[-1] == args[-1]
    assert name_from_configs(paths) == "pong_data+pong_grad"
    assert name_from_configs(["fit"]) is None


@pytest.mark.parametrize(
    ("args", "content", "is_named"),
    [
        (["--model", "my.Module"], "", True),
        (["--model.class_path=my.Module"], "", True),
        (["--model.orthogonal=true"], "model: {orthogonal: true}", False),
        ([], "model: {class_path: my.Module}", True),
        ([], "model: my.Module", True),
        ([], "model: model.yaml", False),
        ([], "[", False),
    ],
)
def test_a_module_named_by_arguments_or_file_is_noticed(
    args: list[str], content: str, is_named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(content)
    (tmp_path / "model.yaml").touch()
    assert names_a_model(["fit", "--config=c.yaml", *args]) == is_named


def test_only_fit_runs_several_seeds() -> None:
    assert wants_seeds(["fit", "--seeds", "2"])
    assert wants_seeds(["fit", "--seeds=2"])
    assert not wants_seeds(["fit", "--seeds=2", "--help"])
    assert not wants_seeds(["fit", "--data.seed=2"])
    assert not wants_seeds(["test", "--seeds=2"])


def test_an_evaluation_without_a_configuration_takes_that_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("runs/pong/1/checkpoints/last.ckpt")
    config = Path("runs/pong/1/csv/version_0/config.yaml")
    for file in (path, config):
        file.parent.mkdir(parents=True)
        file.touch()
    later = Path("runs/pong/1/csv/version_1/config.yaml")  # of a test, with an option that predict does not know
    later.parent.mkdir()
    later.write_text("verbose: true")
    for name in ("last", str(path)):
        args = ["test", "--ckpt_path", name]
        assert with_config_of_run(args) == ["test", f"--config={config}", "--ckpt_path", name]
    for args in (["fit", "--ckpt_path=last"], ["test", "--ckpt_path=best"], ["test", "-c", "x", "--ckpt_path=last"]):
        assert with_config_of_run(args) == args
