"""Curves: the right numbers at the right place."""

from pathlib import Path

import numpy as np
import pytest

from lightning_a3c.viewing.plots import comparison_figures, legend, report_figures, return_and_loss, to_svg
from lightning_a3c.viewing.runs import Run, UnreadableRun, read_run


def run(name: str, value: float, start: int = 0, stop: int = 1000) -> Run:
    """A run in which everything always had one value."""
    env_steps = np.linspace(start, stop, 101)
    same = np.full(101, value)
    columns = {"return": same, "return_100": same, "loss_total": same, "train_seconds": env_steps * 0.6}
    return Run(Path(name), {"env_steps": env_steps, "frames": env_steps * 4} | columns, Path(name))


def thick(axes: object) -> object:
    (line,) = (line for line in axes.lines if line.get_linewidth() == 1.8)
    return line


def test_returns_are_on_the_left_and_total_loss_on_the_right(cartpole_run: Path) -> None:
    real = read_run(cartpole_run)
    left, right = return_and_loss([real]).axes
    assert left.get_ylabel().startswith("return")
    assert right.get_ylabel() == "total loss"
    line = thick(left)
    np.testing.assert_array_equal(line.get_ydata(), real.column("return_100"))
    np.testing.assert_array_equal(line.get_xdata(), real.column("env_steps"))
    (dots,) = (line for line in left.lines if line.get_marker() == ".")
    np.testing.assert_array_equal(dots.get_ydata(), real.column("return"))
    assert len(thick(right).get_ydata()) == len(real.column("loss_total"))


@pytest.mark.parametrize(("x", "last"), [("env_steps", 1000), ("frames", 4000), ("minutes", 10)])
def test_the_x_axis_can_be_chosen(x: str, last: float) -> None:
    left, _ = return_and_loss([run("a", 1.0)], x).axes
    assert thick(left).get_xdata()[-1] == pytest.approx(last)
    assert left.get_xlabel() == x.replace("_", " ")


def seeds(tmp_path: Path, *runs: Run) -> list[Run]:
    """The runs, as seeds of one configuration."""
    made = []
    for number, each in enumerate(runs):
        folder = tmp_path / f"same_seed{number}"
        folder.mkdir()
        config = f"seed_everything: {number}\ntrainer: {{default_root_dir: {folder}}}\nmodel: {{orthogonal: true}}\n"
        (folder / "config.yaml").write_text(config)
        made.append(Run(folder, each.columns, folder))
    return made


def test_seeds_of_one_configuration_give_their_mean_and_a_bootstrap_interval(tmp_path: Path) -> None:
    figure = return_and_loss(seeds(tmp_path, run("a", 1.0), run("b", 5.0)))
    left, _ = figure.axes
    assert set(thick(left).get_ydata()) == {3.0}
    (band,) = left.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 5.0)  # a quarter of the resamplings hold one run twice
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["same: mean of 2 runs", "band: 95 % bootstrap interval of the mean"]


def test_seeds_with_one_logged_row_are_seen_as_a_point(tmp_path: Path) -> None:
    runs = seeds(tmp_path, run("a", 1.0, start=10, stop=10), run("b", 5.0, start=10, stop=10))
    mean = return_and_loss(runs).axes[0].lines[-1]
    assert (mean.get_marker(), mean.get_ydata()[0]) == ("o", 3.0)


def test_the_mean_reaches_as_far_as_all_seeds_do(tmp_path: Path) -> None:
    runs = seeds(tmp_path, run("a", 1.0, start=10, stop=500), run("b", 5.0, stop=900))
    left, _ = return_and_loss(runs).axes
    assert (thick(left).get_xdata()[0], thick(left).get_xdata()[-1]) == (10, 500)


def test_seeds_that_share_no_experience_are_refused(tmp_path: Path) -> None:
    runs = seeds(tmp_path, run("a", 1.0, stop=100), run("b", 1.0, start=200))
    with pytest.raises(UnreadableRun, match=r"the runs share no env_steps: .*seed0, .*seed1; plot each alone"):
        return_and_loss(runs)


def test_runs_of_several_configurations_have_a_line_and_a_name_each() -> None:
    figure = return_and_loss([run("a", 1.0, stop=100), run("b", 5.0, start=200)])
    for axes in figure.axes:
        assert [set(line.get_ydata()) for line in axes.lines] == [{1.0}, {5.0}]
        assert len({line.get_color() for line in axes.lines}) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_validations_have_a_panel_and_keep_their_runs_colour() -> None:
    watched, other = run("a", 1.0), run("b", 2.0)
    watched.columns["val/return_mean"] = np.where(np.arange(101) % 50 == 49, 7.0, np.nan)
    figure = return_and_loss([other, watched])
    assert [axes.get_ylabel() for axes in figure.axes] == ["return: mean of 100", "return in validation", "total loss"]
    (line,) = figure.axes[1].lines
    assert (line.get_xdata().tolist(), set(line.get_ydata())) == ([490, 990], {7.0})
    assert line.get_color() == figure.axes[0].lines[1].get_color()
    assert "Return in validation" in report_figures(watched)
    compared = comparison_figures([other, watched])
    assert list(compared) == ["Return", "Return in validation", "Total loss"]
    assert compared["Return in validation"].axes[0].lines[0].get_color() == line.get_color()
    drawn = {each.get_label(): each.get_color() for each in compared["Return"].axes[0].lines}
    assert legend([other, watched]) == drawn
    assert not any(figure.legends for figure in compared.values())  # the page has one for all of them


def test_the_legend_of_a_page_counts_the_seeds_of_a_configuration(tmp_path: Path) -> None:
    (label,) = legend(seeds(tmp_path, run("a", 1.0), run("b", 5.0)))
    assert label.endswith(": mean of 2 runs")


def test_a_report_has_a_figure_for_everything_worth_watching(cartpole_run: Path) -> None:
    figures = report_figures(read_run(cartpole_run))
    assert list(figures) == [
        "Return",
        "Total and policy loss",
        "Value loss",
        "Explained variance of the critic",
        "Entropy of the policy (nats)",
        "Policy lag (updates)",
        "Throughput (env steps/s)",
        "Gradient norm before clipping",
    ]


def test_markup_in_a_runs_name_stays_text() -> None:
    svg = to_svg(return_and_loss([run("<script>alert(1)</script>", 1.0)]))
    assert b"<script" not in svg
