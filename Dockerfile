# The package with its commands, for a CPU by default:
#   docker build -t clipa .
#   docker build -t clipa:gpu --build-arg EXTRA=gpu .      # CUDA comes with JAX's wheels
#   docker build -t clipa:tpu --build-arg EXTRA=tpu .
FROM python:3.12-slim

ARG EXTRA=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 TF_CPP_MIN_LOG_LEVEL=3

WORKDIR /opt/clipa_jax
# Dependencies first: they stay cached while the code changes.
COPY requirements.txt requirements-gpu.txt requirements-tpu.txt ./
RUN case "$EXTRA" in \
      cpu) pip install -r requirements.txt ;; \
      gpu|tpu) pip install -r "requirements-$EXTRA.txt" ;; \
      *) echo "EXTRA=$EXTRA: expected cpu, gpu or tpu" >&2; exit 1 ;; \
    esac
COPY . .
RUN pip install --no-deps . && useradd --create-home --uid 1000 clipa

USER 1000
WORKDIR /home/clipa
# The demo's pictures are no part of the package; its config finds them here.
RUN ln -s /opt/clipa_jax/data data
CMD ["clipa-train", "--help"]
