"""`plot`, `report` and `play` as users type them."""

import re
import shutil
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
from PIL import Image

from lightning_a3c import A3CModule
from lightning_a3c.__main__ import main
from tests.small_runs import trainer


def test_plot_writes_a_png_and_an_svg_and_says_where(
    cartpole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        ["plot", str(cartpole_run), str(cartpole_run), "--x", "minutes", "--output", str(tmp_path / "new" / "two.runs")]
    )
    png, svg = tmp_path / "new" / "two.runs.png", tmp_path / "new" / "two.runs.svg"
    assert capsys.readouterr().out.split() == [str(png), str(svg)]
    with Image.open(png) as picture:
        assert picture.width > picture.height
    assert svg.read_text().rstrip().endswith("</svg>")


def test_plot_writes_only_the_file_that_its_suffix_asks_for(cartpole_run: Path, tmp_path: Path) -> None:
    main(["plot", str(cartpole_run), "--output", str(tmp_path / "one.pdf")])
    assert [path.name for path in tmp_path.iterdir()] == ["one.pdf"]
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")


def test_plot_of_one_run_goes_into_its_folder(cartpole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(cartpole_run, folder)
    main(["plot", str(folder)])
    assert {path.name for path in folder.glob("curves.*")} == {"curves.png", "curves.svg"}


def test_report_of_several_runs_shows_what_differs(
    cartpole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(cartpole_run, tmp_path / "other")
    config = tmp_path / "other/csv/version_0/config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.004").replace("everything: 0", "everything: 7"))
    monkeypatch.chdir(tmp_path)
    main(["report", str(cartpole_run), "other"])
    assert capsys.readouterr().out == "comparison.html\n"
    page = (tmp_path / "comparison.html").read_text()
    assert re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>", page) == [
        ("optimizer.lr", "0.001", "0.004")
    ]
    assert page.count("<img alt=") == 8
    assert "<td>other</td><td>other</td><td>7</td>" in page
    assert "test: mean and 95 % interval" in page


class HasNoTime:
    """A clock that waits for no frame."""

    def tick(self, framerate: float) -> int:
        return 0


def test_play_opens_a_window_and_says_how_the_episodes_went(
    cartpole_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("pygame.time.Clock", HasNoTime)
    main(["play", "--ckpt_path", str(cartpole_run / "checkpoints/last.ckpt"), "--episodes", "2", "--greedy"])
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("return ")]) == 2


def test_play_without_a_display_names_the_video_option(cartpole_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match=r"no display to open a window on; record instead: --video FILE.mp4"):
        main(["play", "--ckpt_path", str(cartpole_run / "checkpoints/last.ckpt")])


def test_play_records_instead_of_opening_a_window(cartpole_run: Path, tmp_path: Path) -> None:
    main(["play", "--ckpt_path", str(cartpole_run / "checkpoints/last.ckpt"), "--video", str(tmp_path / "a.mp4")])
    assert imageio_ffmpeg.count_frames_and_secs(tmp_path / "a.mp4")[0] > 1


@pytest.mark.parametrize("command", [["plot"], ["report"], ["export", "--to", "x"]])
def test_a_folder_without_a_run_ends_in_one_line_and_writes_nothing(command: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, str(tmp_path)])
    assert f"lightning-a3c {command[0]}: run {tmp_path} holds no metrics.csv" in str(stop.value.code)
    assert "\n" not in str(stop.value.code)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["plot", "report"])
def test_an_output_that_cannot_be_written_is_named(command: str, cartpole_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"cannot write .*file.*; choose another place"):
        main([command, str(cartpole_run), "--output", str(tmp_path / "file" / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_that_is_not_there_or_not_whole_is_named(cartpole_run: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes((cartpole_run / "checkpoints/last.ckpt").read_bytes()[:3000])
    with pytest.raises(SystemExit, match=r"cut.ckpt is not a whole checkpoint"):
        main(["play", "--ckpt_path", str(cut), "--video", str(tmp_path / "a.mp4")])
    with pytest.raises(SystemExit, match=r"no.ckpt does not exist"):
        main(["play", "--ckpt_path", str(tmp_path / "no.ckpt"), "--video", str(tmp_path / "a.mp4")])


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit, match=r"other.ckpt is not a checkpoint of this package"):
        main(["play", "--ckpt_path", str(tmp_path / "other.ckpt"), "--video", str(tmp_path / "a.mp4")])


def test_a_checkpoint_that_names_no_environment_is_refused(tmp_path: Path) -> None:
    training = trainer(tmp_path)
    training.strategy.connect(A3CModule(observation_shape=(4,), num_actions=2))
    training.save_checkpoint(tmp_path / "bare.ckpt")
    with pytest.raises(SystemExit, match=r"bare.ckpt does not say which environment it plays; make the module with"):
        main(["play", "--ckpt_path", str(tmp_path / "bare.ckpt"), "--video", str(tmp_path / "a.mp4")])


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lightning-a3c", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = capsys.readouterr().out
    assert all(command in text for command in ("fit", "test", "predict", "plot", "report", "play", "export", "push"))
    assert all(command in text for command in ("runs", "configs", "sweep"))
