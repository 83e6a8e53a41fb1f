"""What a user who watches is told."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_a3c import RunProgressBar, StopAfterEnvSteps
from lightning_a3c.learning.progress import Progress
from lightning_a3c.viewing.progress_bar import bar_options, describe, is_interactive, seconds_left


def progress(env_steps: int, steps_per_second: float) -> Progress:
    now = Progress()
    now.env_steps = env_steps
    now._ticks.extend([(0.0, 0), (1.0, int(steps_per_second))])
    return now


def trainer(max_steps: int = -1, global_step: int = 10, *callbacks: object) -> SimpleNamespace:
    return SimpleNamespace(max_steps=max_steps, global_step=global_step, callbacks=list(callbacks))


def test_without_a_limit_there_is_no_time_left() -> None:
    assert seconds_left(trainer(), progress(1000, 100.0)) is None
    assert "time left" not in describe(trainer(), progress(1000, 100.0))


def test_time_left_until_a_limit_of_env_steps() -> None:
    assert seconds_left(trainer(-1, 10, StopAfterEnvSteps(4000)), progress(1000, 100.0)) == 30


def test_time_left_until_a_limit_of_updates() -> None:
    # 10 updates took 1,000 env steps, so 30 more take 3,000
    assert seconds_left(trainer(max_steps=40), progress(1000, 100.0)) == 30


def test_the_nearest_limit_counts() -> None:
    assert seconds_left(trainer(40, 10, StopAfterEnvSteps(1200)), progress(1000, 100.0)) == 2


def test_the_facts_are_those_of_the_run() -> None:
    facts = describe(trainer(max_steps=40), progress(1000, 100.0))
    assert facts == {
        "return_100": "–",
        "steps/s": "100",
        "env steps": "1,000",
        "updates": "10",
        "episodes": "0",
        "time left": "0:00:30",
    }


@pytest.mark.parametrize("given", [None, True, False])
def test_without_a_terminal_there_is_a_bar_only_if_asked_for(given: bool | None) -> None:
    assert bar_options({"enable_progress_bar": given, "callbacks": None}) == {"enable_progress_bar": given is True}
    assert bar_options({"enable_progress_bar": given, "callbacks": [RunProgressBar()]}) == {}  # asked for


def test_on_a_terminal_our_bar_is_shown_unless_another_or_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_a3c.viewing.progress_bar.is_interactive", lambda: True)
    (bar,) = bar_options({"enable_progress_bar": None, "callbacks": None})["callbacks"]
    assert isinstance(bar, RunProgressBar)
    assert bar_options({"enable_progress_bar": None, "callbacks": [bar]}) == {}
    assert bar_options({"enable_progress_bar": False, "callbacks": None}) == {}


def test_the_bar_on_a_real_terminal_shows_return_speed_env_steps_and_time_left(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lightning_a3c", "fit", "--trainer.max_steps=30", "--trainer.logger=false"]
    command += ["--trainer.max_epochs=-1"]
    command += ["--data.num_workers=0", "--trainer.enable_checkpointing=false"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "200", "TERM": "xterm"}
    run = subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # the terminal's other end is closed
    errors = run.communicate(timeout=200)[1]
    os.close(ours)
    assert run.returncode == 0, errors
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    for fact in (r"return_100: \d", r"steps/s: \d", r"env steps: [\d,]+", r"time left: \d:\d\d:\d\d"):
        assert re.search(fact, text), (fact, text[-500:])
    assert b"env steps" not in errors  # no lines beside the bar
    assert "/-2" not in text


@pytest.mark.parametrize(("columns", "delimiter"), [("80", "\n"), ("160", " ")])
def test_on_a_narrow_terminal_each_fact_has_a_line(
    columns: str, delimiter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_a3c.viewing.progress_bar.is_interactive", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)
    (bar,) = bar_options({"enable_progress_bar": None, "callbacks": None})["callbacks"]
    assert bar.theme.metrics_text_delimiter == delimiter


def test_a_closed_standard_output_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert not is_interactive()
