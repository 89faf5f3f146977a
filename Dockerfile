# docker build --target cpu .     or     docker build --target cuda .
# docker run -it -v "$PWD/runs:/home/qianwen/runs" IMAGE demo

FROM python:3.12-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap g++ make && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home qianwen
WORKDIR /opt/qianwen
COPY constraints.txt pyproject.toml README.md LICENSE requirements.lock requirements-cuda.lock ./
COPY qianwen ./qianwen
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["qianwen"]
CMD ["--help"]

# The CPU build of torch, from an index given with --build-arg; without one, whatever pip's own index offers.
FROM base AS cpu
ARG TORCH_CPU_INDEX=""
RUN version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' constraints.txt) \
    && if [ -n "$TORCH_CPU_INDEX" ]; then pip install --index-url "$TORCH_CPU_INDEX" "torch==$version+cpu"; fi \
    && pip install -c constraints.txt '.[fast,gguf,ui]'
USER qianwen
WORKDIR /home/qianwen

# torch's default build on Linux carries CUDA; the host needs NVIDIA's driver and container toolkit (docker run --gpus all).
FROM base AS cuda
RUN pip install -c constraints.txt '.[fast,gguf,ui]'
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER qianwen
WORKDIR /home/qianwen
