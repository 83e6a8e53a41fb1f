"""What the documents show is true: code runs, command lines parse, links lead somewhere, lists are complete."""

import dataclasses
import glob
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import lightning_a3c
from tests.command_line import main, run_script

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
USAGE_ERROR = 2  # the exit code


class Block(NamedTuple):
    """A fenced block of Python."""

    line: int  # of its first line of code, counted from 0
    title: str | None  # the file that it shows
    code: str


def python_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = re.finditer(r'^```python(?: title="(.+?)")?\n(.*?)^```$', text, flags=re.DOTALL | re.MULTILINE)
    return [Block(text[: match.start(2)].count("\n"), match[1], match[2]) for match in found]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def write_files(page: Path, folder: Path) -> list[str]:
    """Write the blocks that have a file's name; returns the names of these modules."""
    files = [block for block in python_blocks(page) if block.title]
    for block in files:
        (folder / str(block.title)).write_text(block.code)
    return [str(block.title).removesuffix(".py") for block in files]


def command_lines(page: Path, program: str) -> list[str]:
    """What follows `program` in each line of a shell block, and in each piece of inline code without an ellipsis."""
    text = page.read_text()
    shell = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    inline = [code for code in re.findall(r"`([^`\n]+)`", text) if "…" not in code]
    lines = [line.strip() for line in [*shell.splitlines(), *inline]]
    return [line.removeprefix(program) for line in lines if line.startswith(f"{program} ")]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_the_python_blocks_of_a_page_run_in_order_as_one_script(page: Path, tmp_path: Path) -> None:
    modules = write_files(page, tmp_path)
    lines = [""] * len(page.read_text().splitlines())
    for block in python_blocks(page):
        if not block.title:  # each line where the page has it, for tracebacks
            code = block.code.splitlines()
            lines[block.line : block.line + len(code)] = code
    script = tmp_path / f"{page.stem}_page.py"
    script.write_text("\n".join([*lines, *(f"import {module}" for module in modules)]))
    if page.stem != "README":
        return run_script(script)
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cartpole.ckpt").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_line_and_configuration_parses(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(page, tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning-a3c"])
    configs = [tmp_path / f"block_{number}.yaml" for number, _ in enumerate(blocks(page, "yaml"))]
    for config, text in zip(configs, blocks(page, "yaml"), strict=True):
        config.write_text(text)
    earlier = {line for other in PAGES[: PAGES.index(page)] for line in command_lines(other, "lightning-a3c")}
    lines = dict.fromkeys(line for line in command_lines(page, "lightning-a3c") if line not in earlier)
    for line in [*lines, *(f"fit --config {config.name}" for config in configs)]:
        args = shlex.split(line, comments=True)
        if len(args) < 2:  # a mere name, in prose
            continue
        if args[0] == "configs":
            main(args)
            continue
        with pytest.raises(SystemExit) as stop:
            main([*args, "--print_config"] if args[0] in TRAINER_COMMANDS else args)
        if args[0] in TRAINER_COMMANDS:
            assert stop.value.code == 0, line
        assert stop.value.code != USAGE_ERROR, line  # it may be that there is no such run or checkpoint


def test_the_figures_can_be_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = [line for line in command_lines(ROOT / "docs/results.md", "lightning-a3c") if line.startswith(" plot ")]
    assert len(lines) == 2
    for line in lines:
        *args, name = [path for word in shlex.split(line) for path in glob.glob(word) or [word]]
        main([*args, str(tmp_path / name)])
        assert (tmp_path / f"{name}.png").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_script_and_target_that_a_page_names_exists(page: Path) -> None:
    for line in command_lines(page, "python"):
        script, *args = shlex.split(line)
        if script.startswith(("benchmarks/", "results/")):
            source = (ROOT / script).read_text()
            for option in [arg for arg in args if arg.startswith("--")]:
                assert f'"{option}"' in source, f"{script} has no {option}"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for line in command_lines(page, "make"):
        assert line.split()[0] in targets


def test_every_file_and_heading_that_a_page_links_to_exists() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
            linked = (page.parent / target) if target else page
            assert linked.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in headings(linked), f"{page.name} links to {target}#{anchor}"


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown makes them of plain text."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_troubleshooting_quotes_messages_as_they_are() -> None:
    """The parts of each message between its ellipses, apart from those of PyTorch Lightning and the system."""
    package = Path(lightning_a3c.__file__).parent
    source = "".join(path.read_text() for path in package.rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # texts over several lines
    page = (ROOT / "docs/troubleshooting.md").read_text().split("## It learns slowly")[0]
    cells = re.findall(r"^\| (`.+?) \|", page, flags=re.MULTILINE)
    assert len(cells) > 10
    others = ("Too many open files", "in step of")
    for message in [message for cell in cells for message in re.findall("`(.+?)`", cell) if " " in message]:
        for part in [part.strip() for part in message.split("…")]:
            assert part in source or part.endswith(others), part


def test_configuration_names_every_config() -> None:
    named = re.findall(r"^\| `configs/(\w+\.yaml)`", (ROOT / "docs/configuration.md").read_text(), flags=re.MULTILINE)
    assert sorted([*named, "suite"]) == sorted(os.listdir(ROOT / "configs"))
    suite = re.findall(
        r"^\| `suite/(\w+)` \|.*?\| (.+?) \|$", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE
    )
    parts = {f"{family}/{part}" for family, parts in suite for part in re.findall(r"`(\w+)`", parts)}
    assert parts == {f"{path.parent.name}/{path.stem}" for path in (ROOT / "configs/suite").glob("*/*.yaml")}


@pytest.mark.parametrize(
    ("section", "owner"),
    [
        ("data", lightning_a3c.CollectorDataModule),
        ("data.env", lightning_a3c.EnvConfig),
        ("data.env.atari", lightning_a3c.AtariConfig),
        ("data.supervision", lightning_a3c.Supervision),
        ("data.collectors", lightning_a3c.RayCollectors),
        ("model", lightning_a3c.A3CModule),
    ],
)
def test_configuration_lists_every_option_with_its_default(section: str, owner: type) -> None:
    rows = re.findall(
        rf"^\| `{section}\.(\w+)` \| (.*?) \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE
    )
    parameters = inspect.signature(owner).parameters
    elsewhere = {"env", "observation_shape", "num_actions", "task", "protocol", "network", "optimizer", "lr_scheduler"}
    assert {name for name, _ in rows} == parameters.keys() - elsewhere
    for name, default in rows:
        value = parameters[name].default
        if value is dataclasses.MISSING or not isinstance(value, str | int | float | None):
            continue
        if value is None or isinstance(value, bool):
            value = {None: "null", True: "true", False: "false"}[value]
        assert default == f"`{value}`", name


def test_the_api_reference_lists_every_public_name() -> None:
    listed = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), flags=re.MULTILINE)
    public = [getattr(lightning_a3c, name) for name in lightning_a3c.__all__ if name != "__version__"]
    assert sorted(listed) == sorted(f"{each.__module__}.{each.__qualname__}" for each in public)
