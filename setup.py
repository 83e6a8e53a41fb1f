"""What pyproject.toml cannot say: the folder configs is part of the package when that is built."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lightning_a3c*"]), "lightning_a3c.configs"],
    package_dir={"lightning_a3c.configs": "configs"},
)
