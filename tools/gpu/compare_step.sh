#!/bin/bash
# H/14's pre-training step on one GPU beside open_clip's, in turns, at most 8 minutes.
#
#   [BATCH=512] [STEPS=15] bash tools/gpu/compare_step.sh OUT [further arguments]
#
# Writes OUT/xla.json and OUT/cudnn.json: ours with both attentions, each beside open_clip in PyTorch
# (eager and by torch.compile; bfloat16, scaled_dot_product_attention) at the same batch. Needs
# requirements-gpu.txt and requirements-torch.txt; without a network,
#   pip install --no-deps --no-index wheels/*.whl     (open_clip_torch, ftfy, ml_collections, absl-py)
# ATTENTION="xla" chooses one.
set -eu
cd "$(dirname "$0")/../.."
out=$1; shift
mkdir -p "$out"
export XLA_PYTHON_CLIENT_PREALLOCATE=false TF_CPP_MIN_LOG_LEVEL=3
peers=open_clip,open_clip_compiled status=0
for attention in ${ATTENTION:-cudnn xla}; do
    timeout 235 python tools/benchmark.py step --config=configs/model_h/pretrain.py \
        --peer=$peers --steps=${STEPS:-15} --json="$out/$attention.json" \
        --config.input.batch_size=${BATCH:-512} --config.sharding.preset=dp --config.mesh.fsdp=1 \
        --config.model.attention=$attention --config.model.image.remat=none \
        --config.model.text.remat=none "$@" || { echo "$attention failed"; status=1; }
    peers=open_clip # torch.compile takes minutes, so once
done
exit $status
