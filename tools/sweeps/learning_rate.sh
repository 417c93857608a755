#!/usr/bin/env bash
# A sweep to copy: learning rate by seed, here of the demo's first stage, shortened.
#
#   tools/sweeps/learning_rate.sh --dry-run
#   JOBS=2 tools/sweeps/learning_rate.sh --config.cpu_devices=1
#   SLURM=1 SUBMIT="--gpus=1 --time=1:00:00" tools/sweeps/learning_rate.sh
#
# tools/sweeps/points.sh says what the variables are. Afterwards:
#   python tools/collect.py runs/learning_rate --x=optim.lr_per_256 --out=runs/learning_rate/collected
set -u
cd "$(dirname "$0")/../.." && . tools/sweeps/points.sh
sweep configs/demo/pretrain.py runs/learning_rate "$@"

for lr in ${RATES:-1e-3 2e-3 4e-3}; do
  for seed in ${SEEDS:-0 1 2}; do
    point "lr_$lr/seed_$seed" --config.optim.lr_per_256="$lr" --config.seed="$seed" \
      --config.total_examples="${SAMPLES:-64000}" --config.logs.tensorboard=False
  done
done
run_points
