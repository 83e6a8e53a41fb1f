"""The Dockerfile, as far as it can be checked without a Docker engine."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def steps(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.+)$", DOCKERFILE, re.MULTILINE)


def test_what_is_copied_exists_and_is_sent_to_the_engine() -> None:
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = {source for step in steps("COPY") for source in step.split()[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= copied  # the wheel needs them


def test_the_python_of_the_image_may_run_the_package_and_its_extras_exist() -> None:
    (image,) = steps("FROM")
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", image)
    assert version is not None
    assert PROJECT["requires-python"] == f">={version[1]}"
    (extras,) = re.findall(r'"\.\[(.+?)\]"', DOCKERFILE)
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    assert steps("ENTRYPOINT") == [f'["{next(iter(PROJECT["scripts"]))}"]']


@pytest.mark.parametrize("command", steps("RUN"))
def test_each_run_step_is_a_command_of_the_shell(command: str) -> None:
    assert subprocess.run(["sh", "-n", "-c", command]).returncode == 0
    for version in re.findall(r'"\$\((.*?)\)"', command):  # the version of torch
        done = subprocess.run(["sh", "-c", version], cwd=ROOT, capture_output=True, text=True)
        assert re.fullmatch(r"torch==[\d.]+\n", done.stdout)
