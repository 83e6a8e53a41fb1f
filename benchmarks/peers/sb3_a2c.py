"""stable-baselines3's A2C on Pong with the values of RL Baselines3 Zoo: 16 environments in one process."""

from __future__ import annotations

import ale_py
import gymnasium
import stable_baselines3
from reporting import Run, num_parameters, parser
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecFrameStack


def main() -> None:
    """Train."""
    run = Run(parser().parse_args())
    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=16, seed=0), n_stack=4)
    optimizer = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}}
    model = A2C("CnnPolicy", env, ent_coef=0.01, vf_coef=0.25, policy_kwargs=optimizer, seed=0, device="cpu")

    def returns() -> list[float]:
        return [episode["r"] for episode in model.ep_info_buffer or ()]

    model.learn(10**9, callback=lambda _locals, _globals: not run.tick(model.num_timesteps, returns))
    version, layout = stable_baselines3.__version__, "1 process, 16 environments, 80 an update"
    run.write(version=version, parameters=num_parameters(model.policy), layout=layout)


if __name__ == "__main__":
    main()
