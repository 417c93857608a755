#!/usr/bin/env bash
# The inverse scaling law of CLIPA (arXiv 2305.07017) on icons: two sizes by three numbers of image
# tokens, by resizing, with a learning rate for each.
#
#   tools/sweeps/inverse_scaling_icons.sh --dry-run
#   JOBS=2 tools/sweeps/inverse_scaling_icons.sh
#
# The rate of each size and number of tokens is the one of two with the lower loss on held-out pairs
# after a quarter of the samples of seed 0. Then every point is pre-trained and fine-tuned briefly at
# full length. The data is that of docs/your_data.md with the pairs of data/icons/README.md.
#
# Variables besides those of tools/sweeps/points.sh: SIZES, TOKENS and SEEDS.
set -u
cd "$(dirname "$0")/../.." && . tools/sweeps/points.sh
sweep configs/scaling/icons.py runs/inverse_scaling_icons "$@"
SIZES=${SIZES:-nano mini}
TOKENS=${TOKENS:-64 16 4}
SEEDS=${SEEDS:-0 1 2}
TRIAL_SAMPLES=60000

# cell NAME SIZE TOKENS RATE SEED [OVERRIDE...]: a point.
cell() {
  local name=$1 size=$2 tokens=$3 rate=$4 seed=$5 res
  shift 5
  case $tokens in
    64) res=64 ;;
    16) res=32 ;;
    4) res=16 ;;
    *) echo "error: no square of patches for $tokens image tokens; legal: 64, 16, 4" >&2 && exit 2 ;;
  esac
  point "$name" --config.all.model.size="$size/8" --config.all.seed="$seed" \
    --config.pretrain.input.res=$res --config.pretrain.optim.lr_per_256="$rate" \
    --config.all.compilation_cache="$OUT/cache" "$@"
}

rates() { # of a size: the wider the towers, the lower
  case $1 in
    nano) echo 6e-3 12e-3 ;;
    micro) echo 3e-3 6e-3 ;;
    mini) echo 2e-3 4e-3 ;;
    *) echo "error: no learning rates for the size '$1'; legal: nano, micro, mini" >&2 && exit 2 ;;
  esac
}

# best SIZE TOKENS: the rate with the lower loss of its trial.
best() {
  local rate
  for rate in $(rates "$1"); do
    $PYTHON -c 'import json, sys
print(json.load(open(sys.argv[1]))["stages"][0]["scores"]["contrastive/loss"], sys.argv[2])' \
      "$OUT/trials/$1/image_$2/rate_$rate/summary.json" "$rate"
  done | sort -g | head -n 1 | cut -d ' ' -f 2
}

for size in $SIZES; do
  for tokens in $TOKENS; do
    for rate in $(rates "$size"); do
      cell "trials/$size/image_$tokens/rate_$rate" "$size" "$tokens" "$rate" 0 \
        "--config.stages=('pretrain',)" --config.pretrain.total_examples=$TRIAL_SAMPLES
    done
  done
done
run_points || exit
[ "${DRY_RUN:-0}" = 0 ] || exit 0
for number in "${!NAMES[@]}"; do
  _is_finished "$number" || { echo "run this again when the trials are finished" && exit; }
done

NAMES=() COMMANDS=()
unset NUMBER && declare -A NUMBER=()
for seed in $SEEDS; do
  for size in $SIZES; do
    for tokens in $TOKENS; do
      cell "points/$size/image_$tokens/seed_$seed" "$size" "$tokens" "$(best "$size" "$tokens")" \
        "$seed"
    done
  done
done
run_points || exit
[ "${SLURM:-0}" = 0 ] || exit 0
$PYTHON tools/collect.py "$OUT/points" --law --out="$OUT/collected" \
  --metrics=contrastive/loss,zero_shot/top1,zero_shot/top5
