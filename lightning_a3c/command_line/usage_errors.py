"""One-line errors for command lines and configuration files, with the most similar valid name.

Condenses the many lines of argparse and jsonargparse. Knows no option itself.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml

import lightning_a3c
from lightning_a3c.command_line.shipped_configs import shipped_configs

PROGRAM = "lightning-a3c"
USAGE_ERROR = 2
"""The exit code, the same as argparse's."""


class OneLineParser(ArgumentParser):
    """An `ArgumentParser` whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        refuse(self.prog, one_line(message, re.findall(r"--[\w-]+", self.format_help())))


def refuse(program: str, message: str) -> NoReturn:
    """End the process with one line on standard error."""
    sys.stderr.write(f"{program}: {message} (see {program} --help)\n")
    raise SystemExit(USAGE_ERROR)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean …?` with the most similar of `names`; empty if none is similar."""
    near = get_close_matches(name, sorted({*names} - {name}), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def one_line(message: str, options: Iterable[str], commands: Iterable[str] = ()) -> str:
    """Condense an error of argparse or jsonargparse, and suggest the most similar name.

    Args:
        message: the parser's message, of any number of lines.
        options: names of the parser's options.
        commands: words that the parser accepts as commands, beyond its own.
    """
    for pattern, explain in _EXPLANATIONS:
        if found := re.search(pattern, message):
            return explain(found, message, [*options], [*commands])
    return " ".join(message.split())


def check_configs(args: Sequence[str], linked: Sequence[str]) -> None:
    """Refuse configuration files in `args` that are unreadable, hold no options, or set `linked` under `model`.

    Args:
        args: a command line.
        linked: arguments that belong at the top level of a file, which silently overwrites them under `model`.
    """
    for name in _config_names(args):
        if "://" in name or name.lstrip().startswith("{"):
            continue  # a URL, or the options themselves; the parser reports errors in them
        content = read_config(Path(name))
        for section in ("trainer", "model", "data"):
            if not isinstance(content.get(section) or {}, Mapping | str):  # a string names another file or a class
                refuse(PROGRAM, f"config {name}: {section} must hold options, got {content[section]!r}")
        data = content.get("data")
        for keys in (("env",), ("env", "atari"), ("supervision",)):
            options: Any = data
            for key in keys:
                options = options.get(key) if isinstance(options, Mapping) else None
            if isinstance(options, list):
                refuse(PROGRAM, f"config {name}: data.{'.'.join(keys)} must hold options, got a list: {options!r}")
        model = content.get("model")
        for key in linked:
            if isinstance(model, Mapping) and key in model:
                raise SystemExit(
                    f"{PROGRAM}: {name} sets model.{key}; write {key} at the top level of the file instead"
                )


def read_config(path: Path) -> Mapping[str, Any]:
    """The options in a configuration file."""
    if not path.exists():
        refuse(PROGRAM, f"config {path} does not exist{_nearest_config(path)}")
    if path.is_dir():
        refuse(PROGRAM, f"config {path} is a folder{_nearest_file(path / 'config.yaml')}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        refuse(PROGRAM, f"config {path} cannot be read: {error.strerror or error}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        tab = mark is not None and mark.buffer is not None and mark.buffer[mark.pointer : mark.pointer + 1] == "\t"
        why = "YAML indents with spaces, and this is a tab" if tab else " ".join(str(error.problem).split())
        refuse(PROGRAM, f"config {path}{where} is not YAML: {why}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        refuse(PROGRAM, f"config {path} is not YAML: {' '.join(str(error).split())}")
    if content is None:
        refuse(PROGRAM, f"config {path} is empty; start from the output of `--print_config`")
    if not isinstance(content, Mapping):
        refuse(PROGRAM, f"config {path} holds {type(content).__name__}, not options such as `data: {{num_workers: 2}}`")
    return content


def _config_names(args: Sequence[str]) -> list[str]:
    flags = ("-c", "--config")
    separate = [value for flag, value in pairwise(args) if flag in flags]
    return separate + [argument.partition("=")[2] for argument in args if argument.startswith("--config=")]


def _nearest_config(path: Path) -> str:
    """A hint at a shipped configuration of a similar name, or at a file."""
    shipped = shipped_configs()
    if path.stem in shipped:  # configs/NAME.yaml, where there is no checkout
        return f"; did you mean {path.stem}, which comes with the package?"
    is_name = path.name == str(path)
    in_folders = [name for name in shipped if "/" in name]
    near = did_you_mean(path.stem, shipped) if is_name else did_you_mean(path.as_posix(), in_folders)
    return near or _nearest_file(path)


def _nearest_file(path: Path) -> str:
    """A hint at an existing file whose name or folder is similar to that of `path`."""
    folder = path.parent
    if not folder.is_dir() and folder.parent.is_dir():
        near = get_close_matches(folder.name, [p.name for p in folder.parent.iterdir() if p.is_dir()], n=1)
        folder = folder.parent / near[0] if near else folder
    if (folder / path.name).is_file():
        return f"; did you mean {folder / path.name}?"
    return did_you_mean(str(folder / path.name), map(str, folder.iterdir())) if folder.is_dir() else ""


def _unknown_options(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    words = found[1].split()
    unknown = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not unknown:
        return f"unexpected argument {words[0]}"
    known = ("--" + name.removeprefix("--") for name in options)
    return f"unknown option {unknown[0]}{did_you_mean(unknown[0], known)}"


def _unknown_key(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return f"unknown option {found[1]}{did_you_mean(found[1], options)}"


def _choice(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    argument, value = found[1], found[2]
    choices = [*re.findall(r"'([^']*)'", found[3]), *commands]
    argument = "command" if argument == "subcommand" else argument
    return f"{argument} must be one of {', '.join(choices)}, got {value!r}{did_you_mean(value, choices)}"


def _literal(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    choices = [
        str(c) for kind in re.findall(r"Expected a typing\.Literal(\[.*?\])", message) for c in ast.literal_eval(kind)
    ]
    value = _value(message)
    kinds = f"{_types(message)} or " if _types(message) else ""
    return f"{_key(message)} must be {kinds}one of {', '.join(choices)}, got {value!r}{did_you_mean(value, choices)}"


def _unknown_argument(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    path = found[1] or found[3]
    if path == "torch.nn.Module":  # where no network is named
        return (
            f"{_key(message)}: name the network too, as in --network lightning_a3c.MLP --network.init_args.{found[2]} …"
        )
    try:
        names = list(inspect.signature(_imported(path)).parameters)
    except (AttributeError, ImportError, TypeError, ValueError):
        names = []
    unknown = found[2]
    return f"{_key(message)}: Option {unknown!r} is not accepted by {path}{did_you_mean(unknown, names)}"


def _unknown_attribute(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    module, name = import_module(found[1]), found[2]
    near = did_you_mean(name, {*dir(module), *getattr(module, "__all__", ())}).replace("mean ", f"mean {found[1]}.")
    return f"{_key(message)}: module {found[1]} has no {name}{near}"


def _unknown_module(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    parent, _, name = found[1].rpartition(".")
    path = import_module(parent).__path__ if parent else None
    near = did_you_mean(name, (module.name for module in pkgutil.iter_modules(path)))
    near = near.replace("mean ", f"mean {parent}.") if parent else near
    hint = near or "; it is neither installed nor in the current folder nor in PYTHONPATH"
    return f"{_key(message)}: no module named {found[1]}{hint}"


def _unknown_class(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    value = found[1].strip()
    bases = []
    for path in re.findall(r"<class '([\w.]+)'>", message.partition("Subtypes: ")[2].partition("\n")[0]):
        try:
            bases.append(_imported(path))
        except (AttributeError, ImportError, ValueError):
            continue  # a built-in type
    names = {subclass.__name__ for base in bases for subclass in _subclasses(base)}
    kinds = " or ".join(filter(None, [_types(message), "a class path"]))
    near = did_you_mean(value, names)
    if not near and (public := get_close_matches(value, lightning_a3c.__all__, n=1, cutoff=0.7)):
        near = f"; did you mean lightning_a3c.{public[0]}?"
    return f"{_key(message)} must be {kinds}, got {value!r}{near}"


def _no_subclass(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return f"{_key(message)}: {_value(message)} is no subclass of {found[1]}"


def _not_built(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return f"{found[1]}: {found[2]}"


def _refused(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return found[1]


def _no_spec(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return f"{_key(message)} must be given by class_path and init_args, got {_value(message)}"


def _wrong_type(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return f"{_key(message)} must be {_types(message)}, got {_value(message)!r}"


def _missing_argument(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return f"{_key(message)}: {found[1]} needs init_args.{found[2].strip()}"


def _argument_beside_class_path(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    return f"{_key(message)}: write the arguments of {found[1]} under init_args, not beside class_path"


def _value_for_a_section(found: re.Match[str], message: str, options: list[str], commands: list[str]) -> str:
    key, value = _key(message), found[1]
    hint = f"; did you mean {key}.id {value}?" if key.endswith("data.env") else ""
    return f"{key} must be options or a file that holds them, got {value!r}{hint}"


_EXPLANATIONS = (  # the first match counts, so specific patterns come first
    (r"unrecognized arguments: (.*)", _unknown_options),
    (r"does not accept option '([\w.]+)'", _unknown_key),
    (r"^Option '([\w.]+)' is not accepted", _unknown_key),
    (r"Errors:\n\s+- (data\.collectors\S* (?:must|above|needs) .+)\n", _refused),
    (r"argument ([\w./-]+): invalid choice: '([^']*)' \(choose from (.*)\)", _choice),
    (r"class_path '([\w.]+)':\s+Option 'class_path' is not accepted", _argument_beside_class_path),
    (r"class_path '([\w.]+)':\s+the following arguments are required: (.+)", _missing_argument),
    (r"class_path '([\w.]+)':\s+Option '(\w+)' is not accepted()", _unknown_argument),
    (r"()Option '(\w+)' is not accepted. Got value: Namespace\(class_path='([\w.]+)'", _unknown_argument),
    (r"module '([\w.]+)' has no attribute '(\w+)'", _unknown_attribute),
    (r"Unable to load config '([^'\n]*)'", _value_for_a_section),
    (r"No module named '([\w.]+)'", _unknown_module),
    (r"Import path .*does not correspond to a subclass of (\w+)", _no_subclass),
    (r"Expected a typing\.Literal\[", _literal),
    (r"Expected a dot import path string: (\S+)", _unknown_class),
    (r"class_path '([\w.]+)':\s++(?!Parser key|Not a valid)(.+)", _not_built),
    (r"Expected an? <class '(?!NoneType)", _wrong_type),
    (r"Not a valid subclass of|Expected an import path or a subclass spec", _no_spec),
)


def _key(message: str) -> str:
    """The option that an error is about, in the user's spelling if the command line has it."""
    names = re.findall(r'Parser key "([^"]*)"', message) or [""]
    for option in (argument.partition("=")[0] for argument in sys.argv[1:] if argument.startswith("--")):
        if f".{option.removeprefix('--')}".endswith(f".{names[-1]}"):
            return option
    return "--" + ".".join(names)


def _value(message: str) -> str:
    """The user's value, shortened, since it may be a whole section."""
    found = re.search(r"(?:Given value|Got value): (.*?)(?:\. Got value: .*)?$", message, re.MULTILINE)
    value = found[1] if found else ""
    return value if len(value) <= 100 else f"{value[:97]}..."


def _types(message: str) -> str:
    """The expected built-in types, without None."""
    names = [path.rpartition(".")[2] for path in re.findall(r"Expected an? <class '([\w.]+)'>", message)]
    return " or ".join(dict.fromkeys(name for name in names if name not in ("NoneType", "Iterable")))


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _subclasses(base: type) -> set[type]:
    children: list[type] = base.__subclasses__()
    return {base}.union(*map(_subclasses, children))
