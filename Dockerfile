# syntax=docker/dockerfile:1
# Two images: `operator` (the controller, no torch) and `runner` (what transcribes); `runner-baked` has models inside too.
#
#   docker buildx bake                    both, on Debian's own image
#   python -m tests.cluster images        both, by buildah on a debootstrapped base, for the test cluster
#
# Dependencies come from constraints/, by hash, in layers of their own; the code is the last and smallest layer.
# Behind a proxy with its own authority: `--secret id=ca,src=bundle.pem`. Another package index: `--secret id=index,src=FILE`,
# a shell file that exports UV_DEFAULT_INDEX and PIP_INDEX_URL. Neither is kept in an image.
ARG BASE_IMAGE=debian:trixie-slim

# ---- Python and the user that everything runs as -------------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
RUN if ! python3 -c 'import ensurepip, ssl' 2>/dev/null || ! [ -e /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update -q && \
      apt-get install -q -y --no-install-recommends ca-certificates python3 python3-venv && \
      rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*; \
    fi && \
    groupadd --gid 10001 transcription && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin transcription
# A read-only root file system: what Python and libraries would write goes to /tmp, which the pod mounts.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# ---- The installer: never part of an image -------------------------------------------------------------------------
FROM base AS installer
COPY constraints/uv.txt /opt/pins/uv.txt
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    --mount=type=secret,id=index,target=/run/secrets/index \
    if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi; \
    if [ -s /run/secrets/index ]; then . /run/secrets/index; fi; \
    python3 -m venv /opt/uv && \
    /opt/uv/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r /opt/pins/uv.txt
# torch with its CUDA libraries in one list, all else in another: the first changes seldom and weighs gigabytes.
COPY constraints/operator.txt constraints/runner.txt /opt/pins/
# openai-whisper has no wheel; this pins what builds it.
COPY constraints/build.txt /opt/uv/build.txt
RUN cd /opt/pins && awk '\
    /^[a-zA-Z0-9]/ { file = ($0 ~ /^(torch|torchaudio|triton|nvidia-[a-z0-9-]*|cuda-[a-z]*)==/) ? "torch.txt" : "runner-rest.txt" } \
    { print > file }' runner.txt
# Mounted while dependencies are installed; `install LIST` fills /opt/venv, with bytecode for a quick start.
RUN printf '%s\n' '#!/bin/sh' 'set -eu' \
    'if [ -s /run/secrets/ca.pem ]; then export SSL_CERT_FILE=/run/secrets/ca.pem; fi' \
    'if [ -s /run/secrets/index ]; then . /run/secrets/index; fi' \
    'export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1' \
    '[ -e /opt/venv ] || /opt/uv/bin/uv venv --quiet --python /usr/bin/python3 /opt/venv' \
    'exec /opt/uv/bin/uv pip install --quiet --python /opt/venv/bin/python --no-deps --require-hashes \
    --build-constraints /opt/uv/build.txt -r "$1"' \
    > /opt/uv/install && chmod 755 /opt/uv/install

# ---- The code: everything that it adds to a virtual environment, under /out ------------------------------------------
FROM installer AS code
RUN awk '/^[a-zA-Z0-9]/ { wanted = /^setuptools==/ } wanted' /opt/pins/runner.txt > /opt/pins/setuptools.txt
RUN --mount=type=cache,id=uv,target=/var/cache/uv \
    --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    --mount=type=secret,id=index,target=/run/secrets/index \
    /opt/uv/install /opt/pins/setuptools.txt
COPY pyproject.toml LICENSE /src/
COPY operator/ /src/operator/
COPY runner/ /src/runner/
RUN touch /src/README.md && \
    /opt/uv/bin/uv pip install --quiet --offline --no-cache --compile-bytecode --python /opt/venv/bin/python \
      --no-deps --no-build-isolation /src && \
    mkdir /out && cd / && tar c opt/venv/bin/transcription-* opt/venv/lib/python3*/site-packages/transcription_* | tar x -C /out

# ---- The controller ------------------------------------------------------------------------------------------------
# What of its dependencies nothing here imports goes in the same layer: kubernetes.aio is a second, asynchronous copy of
# the whole client, and the bytecode of 900 models and calls, each loaded alone if it is used, weighs more than it saves.
FROM base AS operator
LABEL org.opencontainers.image.title="transcription-operator" \
      org.opencontainers.image.description="Runs TranscriptionJobs: the controller" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=installer /opt/pins/operator.txt /opt/pins/operator.txt
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv \
    --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    --mount=type=secret,id=index,target=/run/secrets/index \
    /opt/uv/install /opt/pins/operator.txt && \
    cd /opt/venv/lib/python3*/site-packages && \
    rm -rf kubernetes/aio kubernetes/client/models/__pycache__ kubernetes/client/api/__pycache__ && \
    find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["transcription-operator"]
COPY --from=code /out/ /

# ---- What transcribes ----------------------------------------------------------------------------------------------
FROM base AS runner
LABEL org.opencontainers.image.title="transcription-runner" \
      org.opencontainers.image.description="Whisper's command line, and the pod of a TranscriptionJob" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=installer /opt/pins/torch.txt /opt/pins/torch.txt
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv \
    --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    --mount=type=secret,id=index,target=/run/secrets/index \
    /opt/uv/install /opt/pins/torch.txt
COPY --from=installer /opt/pins/runner-rest.txt /opt/pins/runner-rest.txt
RUN --mount=type=bind,from=installer,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=uv,target=/var/cache/uv \
    --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    --mount=type=secret,id=index,target=/run/secrets/index \
    /opt/uv/install /opt/pins/runner-rest.txt
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["transcription-runner"]
COPY --from=code /out/ /

# ---- The same with models inside: no shared volume needed (docs/model-cache.md) --------------------------------------
#   docker buildx build --target runner-baked --build-arg MODELS="openai/whisper-base openai/whisper-large-v3@main" .
# A gated repository: `--secret id=hf_token,src=FILE`. A mirror: `--build-arg HF_ENDPOINT=https://…`.
# They come by the runner's own verified download, and are root's: nobody in the pod can change them.
FROM runner AS models
ARG MODELS="openai/whisper-base"
ARG HF_ENDPOINT=""
USER 0:0
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    --mount=type=secret,id=hf_token,target=/run/secrets/hf_token \
    if [ -s /run/secrets/ca.pem ]; then export TRANSCRIPTION_CA_BUNDLE=/run/secrets/ca.pem; fi; \
    if [ -s /run/secrets/hf_token ]; then HF_TOKEN=$(cat /run/secrets/hf_token); export HF_TOKEN; fi; \
    if [ -z "$HF_ENDPOINT" ]; then unset HF_ENDPOINT; fi; \
    for model in $MODELS; do \
      transcription-runner models download "${model%@*}" $(case "$model" in *@*) echo "--revision=${model##*@}";; esac) \
        --model_dir=/opt/models || exit; \
    done && \
    rm -rf /opt/models/.staging && chmod -R u=rwX,go=rX /opt/models

FROM runner AS runner-baked
LABEL org.opencontainers.image.description="Whisper's command line, and the pod of a TranscriptionJob, with models inside"
ENV TRANSCRIPTION_BAKED_MODELS=/opt/models
COPY --from=models /opt/models/ /opt/models/
