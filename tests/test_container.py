"""The Dockerfile, as far as it can be checked without a Docker engine."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
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


def test_the_image_s_package_holds_the_configurations_that_commands_name(tmp_path: Path) -> None:
    before_installing = DOCKERFILE.partition("RUN pip install -c")[0]
    for step in re.findall(r"^COPY (.+)$", before_installing, re.MULTILINE):
        *sources, target = step.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]).namelist()
    shipped = {f"lightning_a3c/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert shipped <= {*names}


@pytest.mark.parametrize("command", steps("RUN"))
def test_each_run_step_is_a_command_of_the_shell(command: str) -> None:
    assert subprocess.run(["sh", "-n", "-c", command]).returncode == 0
    for version in re.findall(r'"\$\((.*?)\)"', command):  # the version of torch
        done = subprocess.run(["sh", "-c", version], cwd=ROOT, capture_output=True, text=True)
        assert re.fullmatch(r"torch==[\d.]+\n", done.stdout)
