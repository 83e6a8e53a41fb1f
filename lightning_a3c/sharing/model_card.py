"""The model card of an exported policy, in Hugging Face's form. Reads and writes no file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

from lightning_a3c.learning.tasks import TaskDict
from lightning_a3c.version import __version__

_CONTENTS = {
    "model.safetensors": "the network's weights",
    "policy.yaml": "what the network is, and which environment it plays",
    "config.yaml": "the configuration of the training run",
    "replay.mp4": "a recorded episode",
    "net.onnx": "the network for onnxruntime",
    "README.md": "this page",
}
_SETTINGS = ("frame_skip", "sticky_actions", "noop_max", "kwargs", "wrappers", "observation_keys", "action_mask")
_ORDER = ("median", "min", "max")


class Loading(NamedTuple):
    """What the reader must allow in order to load the policy."""

    network: str | None = None  # class path of a network that is not this package's
    trust: bool = False  # whether making the environment imports code of others
    action_spec: str | None = None  # class path of a distribution that is not this package's
    has_memory: bool = False
    extra: str = ""  # of this package, which brings the environment


def model_card(
    task: TaskDict,
    results: dict[str, Any] | None,
    env_steps: int,
    files: Iterable[str],
    loading: Loading,
) -> str:
    """Markdown with YAML front matter, whose `model-index` holds the results.

    Args:
        task: what the policy plays.
        results: of a test, as `SaveTestResults` writes them.
        env_steps: of training.
        files: names of the folder's files.
        loading: see there.
    """
    env_id = str(task["env_id"])
    title = f"A3C agent for {env_id}"
    files = set(files)
    settings = [(name, f"`{task[name]}`") for name in _SETTINGS if task.get(name) not in (None, False, 1, {}, [])]
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(env_id, results), sort_keys=False, allow_unicode=True)}---",
        f"# {title}",
        f"An advantage actor-critic agent for **{env_id}**, trained for {env_steps:,} env steps with lightning_a3c "
        f"{__version__}.",
        "## Results",
        _results(results) if results else "Not tested yet.",
        "## How to load it",
        _how_to_load(loading),
        "## Environment",
        _table(("setting", "value"), settings) if settings else f"`{env_id}` as it is, without arguments.",
        "## Files",
        _table(("file", "content"), [(f"`{name}`", text) for name, text in _CONTENTS.items() if name in files]),
    ]
    if "config.yaml" in files:
        parts += ["## Train it again", "```bash\nlightning-a3c fit --config config.yaml\n```"]
    return "\n\n".join(parts) + "\n"


def _front_matter(env_id: str, results: dict[str, Any] | None) -> dict[str, Any]:
    tags = ["reinforcement-learning", "deep-reinforcement-learning", "a3c", "a2c", "pytorch-lightning", env_id]
    front: dict[str, Any] = {
        "library_name": "lightning-a3c",
        "pipeline_tag": "reinforcement-learning",
        "tags": tags,
    }
    if results:
        metric = {
            "type": "mean_reward",
            "value": f"{results['test/return_mean']:.2f} +/- {results['test/return_std']:.2f}",
            "name": f"mean return of {results['episodes']} episodes +/- std",
            "verified": False,
        }
        front["model-index"] = [
            {
                "name": f"a3c-{env_id.replace('/', '-').replace(':', '-')}",
                "results": [
                    {
                        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                        "dataset": {"type": env_id, "name": env_id},
                        "metrics": [metric],
                    }
                ],
            }
        ]
    return front


def _results(results: dict[str, Any]) -> str:
    low, high = results["test/return_mean_low"], results["test/return_mean_high"]
    rows = [
        ("mean return", f"{results['test/return_mean']:.2f}"),
        ("95 % bootstrap interval of the mean", f"{low:.2f} … {high:.2f}"),
        ("standard deviation", f"{results['test/return_std']:.2f}"),
        ("median, minimum, maximum", ", ".join(f"{results[f'test/return_{how}']:.2f}" for how in _ORDER)),
        ("mean length in env steps", f"{results['test/length_mean']:.0f}"),
    ]
    how = "taken greedily" if results["policy"] == "greedy" else "sampled"
    text = f"{results['episodes']} episodes, actions {how}, seed {results['seed']}; returns are unclipped."
    if results.get("cut_off"):
        text += f" {results['cut_off']} of them were cut off after {results['eval_max_steps']:,} env steps."
    return f"{text}\n\n{_table(('', 'value'), rows)}"


def _how_to_load(loading: Loading) -> str:
    foreign = {
        argument: class_path.rpartition(".")
        for argument, class_path in (("network", loading.network), ("action_spec", loading.action_spec))
        if class_path is not None
    }
    lines = [
        "from lightning_a3c import load_policy",
        *(
            f"from {module} import {name}  # the {argument}'s code, which is not in this folder"
            for argument, (module, _, name) in foreign.items()
        ),
        "",
        '# from the Hub: folder = huggingface_hub.snapshot_download("USER/NAME")',
        f'policy = load_policy("FOLDER"{"".join(f", {argument}={name}" for argument, (*_, name) in foreign.items())})',
        f"env = policy.make_env({'trust=True' if loading.trust else ''})",
        "observation, info = env.reset(seed=0)",
        *(["policy.reset()  # it has memory: tell it where each episode begins"] if loading.has_memory else []),
        "action = policy.act(observation, info, greedy=True)",
    ]
    code = "\n".join(lines)
    install = f"pip install 'lightning-a3c[{loading.extra}]'" if loading.extra else "pip install lightning-a3c"
    return (
        f"```bash\n{install}\n```\n\n```python\n{code}\n```\n\n"
        "Loading runs no code from this folder and needs no PyTorch Lightning."
    )


def _table(header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [header, ("---", "---"), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
