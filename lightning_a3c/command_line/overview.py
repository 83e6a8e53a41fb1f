"""`lightning-a3c --help`: every command with an example. Loads nothing that takes time."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_a3c.command_line.usage_errors import PROGRAM, did_you_mean, refuse

EXAMPLES = {
    "configs": ("list the shipped configurations, or copy one to edit", "configs --copy cartpole_data"),
    "fit": ("train", "fit --config cartpole_data"),
    "test": ("play whole episodes with trained weights", "test --ckpt_path best"),
    "validate": ("the same, logged as val/…", "validate --ckpt_path last"),
    "predict": (
        "actions and values for observations in a file",
        "predict --ckpt_path best --data.predict_observations o.npy",
    ),
    "runs": ("list the runs", "runs"),
    "plot": ("draw the curves of runs", "plot last"),
    "report": ("write all about a run to one HTML file", "report last"),
    "play": ("watch a checkpoint play", "play --ckpt_path best --video a.mp4"),
    "export": ("write an agent as a folder to share", "export best --to my_policy"),
    "push": ("upload such a folder to the Hugging Face Hub", "push my_policy --repo USER/NAME"),
    "sweep": ("search good values of a configuration", "sweep sweep.yaml"),
}
"""What each command does, and a command line that shows it."""

_TOP_OPTIONS = """options:
  --help          this text; `{program} COMMAND --help` has the options of a command
  --version       the version
  --print_completion shtab-bash|shtab-zsh|shtab-tcsh
                  a script that completes commands and options; needs the extra `completion`"""


def overview() -> str:
    """The text of `--help`."""
    width = max(map(len, EXAMPLES))
    lines = [
        f"  {command:{width}}  {purpose}\n  {'':{width}}    {PROGRAM} {example}"
        for command, (purpose, example) in EXAMPLES.items()
    ]
    commands = "\n".join(lines)
    options = _TOP_OPTIONS.format(program=PROGRAM)
    return f"usage: {PROGRAM} COMMAND [options]\n\nTrain A3C agents.\n\ncommands:\n{commands}\n\n{options}"


def require_command(args: Sequence[str]) -> None:
    """End the process with one line if `args` are empty or begin with a word that is no command."""
    if not args:
        refuse(PROGRAM, "name a command")
    if not args[0].startswith("-") and args[0] not in EXAMPLES:
        choices = ", ".join(EXAMPLES)
        refuse(PROGRAM, f"command must be one of {choices}, got {args[0]!r}{did_you_mean(args[0], EXAMPLES)}")
