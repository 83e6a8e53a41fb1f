"""The report in a real browser: everything is there, and nothing comes from elsewhere."""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from lightning_a3c.viewing.report import after_training, caption, headline, write_comparison, write_report
from lightning_a3c.viewing.runs import Run, UnreadableRun, read_run

QUIET = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*QUIET, "disable-component-update", "disable-sync", "window-size=1250,2400"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def requested(browser: webdriver.Chrome) -> list[str]:
    """What the page asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def test_a_browser_shows_every_figure_and_the_video_from_one_file(
    browser: webdriver.Chrome, cartpole_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    write_report(read_run(cartpole_run), path)
    requested(browser)  # forgets what the browser did before
    browser.get(path.as_uri())
    figures = browser.find_elements(By.CSS_SELECTOR, ".figures img")
    assert len(figures) == 8
    assert all(browser.execute_script("return arguments[0].naturalWidth", figure) > 100 for figure in figures)
    video = browser.find_element(By.TAG_NAME, "video")
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script("return arguments[0].readyState", video) >= 2)
    assert browser.execute_script("return arguments[0].videoWidth", video) == 780  # 600 of the game, 180 beside it
    text = browser.find_element(By.TAG_NAME, "body").text
    for fact in (
        "not solved",
        "env steps/s",
        "4 whole episodes",
        "95 % interval",
        "pytorch-lightning",
        "num_workers: 1",
    ):
        assert fact in text
    assert {url.split(":")[0] for url in requested(browser)} <= {"file", "data"}
    assert browser.get_log("browser") == []


def test_a_browser_shows_a_comparison_from_one_file(
    browser: webdriver.Chrome, cartpole_run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "<b>other"
    shutil.copytree(cartpole_run, other)
    config = other / "csv/version_0/config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: '<script>document.title = 1</script>'"))
    path = tmp_path / "comparison.html"
    write_comparison([read_run(cartpole_run), read_run(other)], path)
    requested(browser)
    browser.get(path.as_uri())
    assert browser.title == "Comparison of 2 runs"
    figures = browser.find_elements(By.CSS_SELECTOR, ".figures img")
    assert len(figures) == 8
    assert all(browser.execute_script("return arguments[0].naturalWidth", figure) > 100 for figure in figures)
    results, differing = browser.find_elements(By.TAG_NAME, "table")
    assert len(results.find_elements(By.CSS_SELECTOR, "tbody tr")) == 2
    assert "<b>other" in results.text
    assert "optimizer.lr 0.001 <script>" in differing.text
    assert {url.split(":")[0] for url in requested(browser)} <= {"file", "data"}
    assert browser.get_log("browser") == []


def test_markup_in_names_and_configuration_stays_text(
    browser: webdriver.Chrome, cartpole_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(cartpole_run, folder)
    (folder / "csv/version_0/config.yaml").write_text("note: </pre><script>document.title = 'taken over'</script>\n")
    results = json.loads((folder / "checkpoints/last.test.json").read_text())
    results["checkpoint"] = "<b id='injected'>bold</b>"
    (folder / "checkpoints/last.test.json").write_text(json.dumps(results))
    write_report(read_run(folder), tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.title == folder.name
    assert browser.find_element(By.TAG_NAME, "h1").text == folder.name
    assert not browser.find_elements(By.TAG_NAME, "script")
    assert not browser.find_elements(By.ID, "injected")


def test_a_run_without_video_test_or_configuration_still_has_a_report(cartpole_run: Path, tmp_path: Path) -> None:
    log = tmp_path / "run/csv/version_0"
    log.mkdir(parents=True)
    shutil.copy(cartpole_run / "csv/version_0/metrics.csv", log)
    write_report(read_run(tmp_path / "run"), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for missing in ("No test results", "No video", "No machine", "No configuration"):
        assert missing in page


def run(returns: list[float], episodes: list[float], bound: float | None = None, folder: Path = Path("x")) -> Run:
    if bound is not None:
        callback = f"[{{class_path: lightning_a3c.StopWhenSolved, init_args: {{bound: {bound}}}}}]"
        (folder / "config.yaml").write_text(f"trainer: {{callbacks: {callback}}}")
    env_steps = np.arange(1.0, len(returns) + 1) * 1000
    columns = {"env_steps": env_steps, "return_100": np.array(returns), "episodes": np.array(episodes)}
    return Run(folder, columns | {"train_seconds": env_steps / 50}, folder)


def test_headline_takes_the_best_mean_of_a_hundred_and_not_of_fewer() -> None:
    facts = headline(run([30.0, 10.0, 20.0, 15.0], [50, 100, 150, 200]))
    assert (facts.best_return, facts.last_return, facts.solved) == (20.0, 15.0, False)
    assert (facts.env_steps, facts.duration, facts.steps_per_second) == (4000, timedelta(seconds=80), 50)


@pytest.mark.parametrize(("bound", "solved"), [(19.0, True), (20.0, False)])
def test_solved_means_above_the_runs_own_bound(bound: float, solved: bool, tmp_path: Path) -> None:
    assert headline(run([10.0, 20.0], [100, 150], bound, tmp_path)).solved == solved


def test_a_log_that_ends_before_the_run_does_not_say_whether_it_was_solved(tmp_path: Path) -> None:
    old = run([10.0, 17.0, 17.0], [100, 150, 150], 18.0, tmp_path)  # rose by 7 in 50 updates, and 1 is missing
    old.columns["step"] = np.array([49.0, 99.0, 120.0])
    old.columns["env_steps"][-1] = old.columns["env_steps"][-2]
    facts = headline(old)
    assert (facts.solved, facts.unlogged_updates) == (None, 21)
    old.columns["return_100"][:] = [10.0, 10.5, 10.5]
    assert headline(old).solved is False
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/solved.ckpt").touch()
    assert headline(old).solved is True


def test_a_run_in_which_no_episode_ended_has_a_headline_and_figures() -> None:
    silent = run([float("nan")] * 3, [0, 0, 0])
    silent.columns["train_seconds"][-1] = float("nan")
    facts = headline(silent)
    assert (facts.best_return, facts.last_return, facts.duration) == (None, None, timedelta(seconds=40))


@pytest.mark.parametrize(
    ("env_steps", "said"),
    [
        (2000, "after 2,000 env steps of training, all that this run logged"),
        (500, "after 500 of this run's 2,000 env steps; the run went on after that"),
        (2500, "after 2,500 env steps of training, 500 more than this run logged"),
    ],
)
def test_a_tested_agent_is_placed_in_its_run(env_steps: int, said: str) -> None:
    assert after_training(run([1.0, 2.0], [1, 2]), env_steps) == said


def test_videos_say_which_agent_they_show(tmp_path: Path) -> None:
    trained = run([1.0, 2.0], [1, 2], folder=tmp_path)
    trained.columns["step"] = np.array([49.0, 99.0])
    assert caption(trained, tmp_path / "update=0000060.mp4") == "update=0000060.mp4: the agent after 60 of 100 updates"
    assert caption(trained, tmp_path / "last.test.mp4") == "last.test.mp4"
    (tmp_path / "last.test.json").write_text('{"env_steps_trained": 500}')
    assert caption(trained, tmp_path / "last.test.mp4").startswith("last.test.mp4: the agent after 500 of this run's")


def test_results_that_lack_something_are_refused_in_one_line(cartpole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(cartpole_run, tmp_path / "run")
    (tmp_path / "run/checkpoints/last.test.json").write_text('{"checkpoint": "last.ckpt", "env_steps_trained": 5}')
    with pytest.raises(UnreadableRun, match=r"a test's results in .*run are incomplete: .*; test again"):
        write_report(read_run(tmp_path / "run"), tmp_path / "report.html")
