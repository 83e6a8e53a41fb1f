"""What `pip install` brings."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]


def test_a_wheel_holds_every_module_and_the_shipped_configurations(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("lightning_a3c", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    built = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    found = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {
        str(path.relative_to(source))
        for path in (source / "lightning_a3c").rglob("*")
        if path.suffix in (".py", ".html", ".typed")
    }
    configs = {f"lightning_a3c/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert "lightning_a3c/configs/suite/continuous/hopper.yaml" in configs
    assert found == modules | configs
