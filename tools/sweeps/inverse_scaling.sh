#!/usr/bin/env bash
# The inverse scaling law of CLIPA (arXiv 2305.07017) on the bundled data: model size by image
# tokens and by text tokens, by the way in which they are reduced, at equal samples.
#
#   tools/sweeps/inverse_scaling.sh --dry-run | wc -l
#   GRID=small JOBS=2 tools/sweeps/inverse_scaling.sh
#
# Every point is pre-trained with few tokens and then fine-tuned briefly at full length, as in the
# paper; the points at full length too. The coarse grid comes first, so that a grid that is not
# finished can be looked at. docs/measurements/inverse_scaling.md has a recorded grid.
#
# Variables besides those of tools/sweeps/points.sh:
#   GRID   full, or small: fewer points
#   SIZES  of the towers, rows of clipa_jax/models/sizes.py
#   SEEDS  three by default
#   STAGES pretrain to leave the fine-tuning for later: run again without it, and it is added
set -u
cd "$(dirname "$0")/../.." && . tools/sweeps/points.sh
sweep configs/scaling/schedule.py runs/inverse_scaling "$@"
SIZES=${SIZES:-nano micro mini}
SEEDS=${SEEDS:-0 1 2}
GRID=${GRID:-full}
STAGES_ARGUMENT=()
[ -z "${STAGES:-}" ] || STAGES_ARGUMENT=("--config.stages=('$STAGES',)")

# run NAME [OVERRIDE...]: a point for every seed and size.
run() {
  local name=$1 seed size rate
  shift
  for seed in $SEEDS; do
    for size in $SIZES; do
      case $size in # the wider the towers, the lower the rate that they take: as 1 / width
        nano) rate=24e-3 ;;
        micro) rate=12e-3 ;;
        mini) rate=8e-3 ;;
        S) rate=2e-3 ;;
        B) rate=1e-3 ;;
        *) echo "error: no learning rate for the size '$size'" >&2 && exit 2 ;;
      esac
      point "$name/$size/seed_$seed" --config.all.model.size="$size/8" --config.all.seed="$seed" \
        --config.pretrain.optim.lr_per_256=$rate \
        --config.all.compilation_cache="$OUT/cache" "${STAGES_ARGUMENT[@]}" "$@"
    done
  done
}


# image TOKENS REDUCTIONS: with all text tokens. Of 8 x 8 patches, grid and block keep a square, as
# resizing does: 36 where 32 are asked for.
image() {
  local tokens reduction res mask
  for tokens in $1; do
    case $tokens in
      64) res=64 mask=0 ;;
      32) res=48 mask=0.5 ;;
      16) res=32 mask=0.75 ;;
      9) res=24 mask=0.859375 ;;
      4) res=16 mask=0.9375 ;;
      *) echo "error: no square of patches for $tokens image tokens" >&2 && exit 2 ;;
    esac
    for reduction in $2; do
      case $reduction in
        resize) run "image_$tokens/$reduction" --config.pretrain.input.res=$res ;;
        *) run "image_$tokens/$reduction" --config.pretrain.mask.name="$reduction" \
          --config.pretrain.mask.ratio=$mask ;;
      esac
    done
  done
}

# text TOKENS REDUCTIONS: with 16 image tokens by resizing, so the full length is image 16 resize.
text() {
  local tokens reduction
  for tokens in $1; do
    for reduction in $2; do
      run "text_$tokens/$reduction" --config.pretrain.input.res=32 \
        --config.pretrain.input.text_len="$tokens" --config.pretrain.input.reduction="$reduction"
    done
  done
}

image 64 resize # full length
image "16 4" resize
text 4 "truncate syntax"
image "16 4" random
text 4 "random block frequency"
image "16 4" "grid block"
case $GRID in
  small) ;;
  full)
    image "9 32" "resize random grid block"
    text "8 6" "truncate syntax random block frequency"
    ;;
  *) echo "error: unknown GRID '$GRID'; legal: full, small" >&2 && exit 2 ;;
esac
run_points
status=$?
[ "${DRY_RUN:-0}" != 0 ] || [ "${SLURM:-0}" != 0 ] || [ $status -gt 1 ] \
  || $PYTHON tools/collect.py "$OUT" --law --out="$OUT/collected" \
    --metrics=contrastive/loss,zero_shot/top1,zero_shot/top5 || status=1
exit $status
