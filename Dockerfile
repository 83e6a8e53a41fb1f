# lightning_a3c on the CPU, with the tested versions of everything.
#
#     docker build --tag lightning-a3c .
#     docker run --rm --init --shm-size=2g --user "$(id -u):$(id -g)" --volume "$PWD/runs:/training/runs" \
#         lightning-a3c fit --config configs/cartpole_data.yaml
#
# Workers send experience through /dev/shm. A container has 64 MiB of it unless --shm-size says otherwise; a run that
# needs more says so before it starts. Make the folder `runs` first, or Docker makes it as root.
FROM python:3.11-slim-bookworm

# any user may run the image; what programs cache goes to a folder that all can write to
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1

WORKDIR /app
COPY constraints.txt ./
# in a layer of its own, and without CUDA's packages of several gigabytes
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"

COPY pyproject.toml setup.py README.md LICENSE ./
COPY configs configs
COPY lightning_a3c lightning_a3c
RUN pip install -c constraints.txt ".[box2d,hub,minigrid,onnx]"

RUN install -d -m 1777 /training
WORKDIR /training
COPY configs configs
ENTRYPOINT ["lightning-a3c"]
CMD ["--help"]
