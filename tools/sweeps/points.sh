# shellcheck shell=bash
# What sweeps share; bash 4.3 or newer. A sweep is a script that names points in plain loops, then
# runs them:
#
#   cd "$(dirname "$0")/../.." && . tools/sweeps/points.sh
#   sweep configs/demo/pretrain.py runs/my_sweep "$@"
#   for seed in 0 1 2; do
#     point "seed_$seed" --config.seed=$seed
#   done
#   run_points
#
# A point is one training in OUT/<name>, a config with overrides. Run the script again to continue:
# finished points are skipped at once, others go on from their last checkpoint. A point that fails
# does not stop the others; it is named at the end, and the status is 1.
#
# Variables, all optional:
#   OUT      folder of the sweep, from the root of the repository; the script has a default
#   JOBS     points side by side on this machine, 1 by default
#   SLURM=1  submit each point as a job instead; SUBMIT holds the options of tools/slurm/submit.py
#   DRY_RUN=1  print the commands only, as does --dry-run
#   PYTHON   .venv/bin/python if it is there, else python3
#   TRAIN    what trains, "PYTHON -m clipa_jax.train" by default
# Arguments that begin with --config. hold for every point.

NAMES=()    # of the points, in order
COMMANDS=() # their arguments, quoted for the shell
FAILED=()   # names and reasons
STOPPED=0
declare -A NUMBER=()  # name -> place in these lists
declare -A RUNNING=() # process id -> number of the point
declare -A BEGAN=()   # process id -> when it was started, in seconds of this script

# sweep CONFIG OUT [ARGUMENT...]: the config of every point, the default folder, the script's "$@".
sweep() {
  SWEEP_CONFIG=$1 OUT=${OUT:-$2} SHARED=()
  shift 2
  for argument in "$@"; do
    case $argument in
      --dry-run) DRY_RUN=1 ;;
      --config.*) SHARED+=("$argument") ;;
      *)
        echo "error: unknown argument '$argument'; legal: --dry-run, --config.KEY=VALUE" >&2
        exit 2
        ;;
    esac
  done
  if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
  fi
  TRAIN=${TRAIN:-$PYTHON -m clipa_jax.train}
  JOBS=${JOBS:-1}
}

# point NAME [OVERRIDE...]: one training, in OUT/NAME. The same point may be named again. Of several
# values of a key the last holds; those of the script's command line come last.
point() {
  local name=$1 command before argument
  local -A value=()
  local -a keys=()
  shift
  for argument in "$@" "${SHARED[@]}"; do
    [ -n "${value[${argument%%=*}]+set}" ] || keys+=("${argument%%=*}")
    value[${argument%%=*}]=$argument
  done
  command=$(printf '%q ' "--config=$SWEEP_CONFIG" && for argument in "${keys[@]}"; do
    printf '%q ' "${value[$argument]}"
  done)
  before=${NUMBER[$name]:-}
  if [ -z "$before" ]; then
    NUMBER[$name]=${#NAMES[@]}
    NAMES+=("$name")
    COMMANDS+=("$command")
  elif [ "${COMMANDS[$before]}" != "$command" ]; then
    echo "error: two points are called $name; its name must hold all that varies" >&2
    exit 2
  fi
}

# run_points: runs all that were named; status 1 if one failed, 130 if it was stopped.
run_points() {
  local number
  if [ "${DRY_RUN:-0}" != 0 ]; then
    for number in "${!NAMES[@]}"; do
      printf '%s\n' "$(_command "$number")"
    done
    return 0
  fi
  mkdir -p "$OUT"
  _list_points
  trap _stop INT TERM
  for number in "${!NAMES[@]}"; do
    [ "$STOPPED" = 0 ] || break
    if _is_finished "$number"; then
      _say "$number" "finished before"
    elif [ "${SLURM:-0}" != 0 ]; then
      _submit "$number"
    else
      while [ "${#RUNNING[@]}" -ge "$JOBS" ]; do _wait_for_one; done
      [ "$STOPPED" != 0 ] || _start "$number"
    fi
  done
  while [ "${#RUNNING[@]}" -gt 0 ]; do _wait_for_one; done
  trap - INT TERM
  _report
}

_command() { # of a point, as one would type it
  local train=$TRAIN
  if [ "${SLURM:-0}" != 0 ]; then
    train="$PYTHON tools/slurm/submit.py ${SUBMIT:---nodes=1 --gpus=1} --"
  fi
  printf '%s %s--workdir=%q' "$train" "${COMMANDS[$1]}" "$OUT/${NAMES[$1]}"
}

_list_points() { # for tools/collect.py, which says what is missing
  local name
  touch "$OUT/points.txt"
  for name in "${NAMES[@]}"; do
    grep -qxF -- "$name" "$OUT/points.txt" || printf '%s\n' "$name" >>"$OUT/points.txt"
  done
}

# The trainer writes summary.json when all stages are finished; `command` says what was asked for
# then. Should it be another command now, the trainer decides: it refuses another experiment.
_is_finished() {
  local folder="$OUT/${NAMES[$1]}"
  [ -f "$folder/summary.json" ] && [ "$(cat "$folder/command" 2>/dev/null)" = "${COMMANDS[$1]}" ] \
    && [ ! "$folder/command" -nt "$folder/summary.json" ]
}

_claim() { # writes `command`, unless it says so already
  local folder="$OUT/${NAMES[$1]}"
  mkdir -p "$folder"
  [ "$(cat "$folder/command" 2>/dev/null)" = "${COMMANDS[$1]}" ] \
    || printf '%s\n' "${COMMANDS[$1]}" >"$folder/command"
}

_start() {
  _claim "$1"
  # Ctrl-C reaches this script alone (background jobs ignore it), which then asks each to save.
  eval "exec $(_command "$1")" >>"$OUT/${NAMES[$1]}/log" 2>&1 </dev/null &
  RUNNING[$!]=$1 BEGAN[$!]=$SECONDS
}

_wait_for_one() { # until a point ended or a signal came
  local id status log
  wait -n "${!RUNNING[@]}"
  for id in "${!RUNNING[@]}"; do
    kill -0 "$id" 2>/dev/null && continue
    wait "$id"
    status=$?
    if [ "$status" = 0 ]; then
      _say "${RUNNING[$id]}" "finished in $((SECONDS - BEGAN[$id])) s"
    elif [ "$STOPPED" = 0 ]; then
      log="$OUT/${NAMES[${RUNNING[$id]}]}/log"
      _fail "${RUNNING[$id]}" "status $status, $log says: $(tail -n 1 "$log")"
    fi
    unset "RUNNING[$id]" "BEGAN[$id]"
  done
}

_submit() { # a job, unless the one of an earlier call is still in the queue
  local folder="$OUT/${NAMES[$1]}" said job
  job=$(cat "$folder/job" 2>/dev/null)
  if [ -n "$job" ] && [ -n "$(squeue --noheader --jobs="$job" 2>/dev/null)" ]; then
    _say "$1" "in the queue as job $job"
    return
  fi
  _claim "$1"
  said=$(eval "$(_command "$1")" 2>&1)
  if [[ $said =~ "Submitted batch job "([0-9]+) ]]; then
    printf '%s\n' "${BASH_REMATCH[1]}" >"$folder/job"
    _say "$1" "submitted as job ${BASH_REMATCH[1]}"
  else
    _fail "$1" "not submitted: ${said##*$'\n'}"
  fi
}

_stop() { # each point finishes its step, saves and ends
  STOPPED=1
  [ "${#RUNNING[@]}" = 0 ] || kill -TERM "${!RUNNING[@]}" 2>/dev/null
}

_say() { printf '[%d/%d] %s: %s\n' "$(($1 + 1))" "${#NAMES[@]}" "${NAMES[$1]}" "$2"; }

_fail() {
  _say "$@" >&2
  FAILED+=("${NAMES[$1]}: $2")
}

_report() {
  if [ "$STOPPED" != 0 ]; then
    echo "stopped; run the same command again to resume" >&2
    return 130
  fi
  [ "${#FAILED[@]}" = 0 ] && return 0
  printf '%d of %d points failed:\n' "${#FAILED[@]}" "${#NAMES[@]}" >&2
  printf '  %s\n' "${FAILED[@]}" >&2
  return 1
}
