#!/usr/bin/env bash
# Runs a command on one worker, apart from the connection that started it; tools/tpu/pod.py calls it.
#
#   worker.sh FOLDER RESTARTS COMMAND...
#
# FOLDER/log     what the command says
# FOLDER/pid     this process, while it runs; SIGTERM to it is handed to the command
# FOLDER/status  the exit status of the command, once it is over
#
# A command that fails is started again up to RESTARTS times, unless it was asked to stop.
# Secrets, such as WANDB_API_KEY=..., stand in ~/.config/clipa_jax/env, readable by its owner only.
set -u

if [ $# -lt 3 ]; then
  echo "usage: worker.sh FOLDER RESTARTS COMMAND..." >&2
  exit 2
fi
folder=$1 restarts=$2
shift 2
mkdir -p "$folder"

secrets=$HOME/.config/clipa_jax/env
if [ -f "$secrets" ]; then
  if [ "$(stat -c %a "$secrets")" != 600 ]; then
    echo "worker.sh: $secrets must be readable by its owner only: chmod 600" >>"$folder/log"
    echo 1 >"$folder/status"
    exit 1
  fi
  set -a
  # shellcheck disable=SC1090
  . "$secrets"
  set +a
fi

echo $$ >"$folder/pid"
rm -f "$folder/status"
child='' asked=''
trap 'asked=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM

while :; do
  "$@" >>"$folder/log" 2>&1 &
  child=$!
  wait "$child"
  status=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ends `wait` early
    wait "$child"
    status=$?
  done
  if [ "$status" = 0 ] || [ -n "$asked" ] || [ "$restarts" = 0 ]; then
    break
  fi
  restarts=$((restarts - 1))
  echo "worker.sh: status $status, starting again; $restarts more times" >>"$folder/log"
  sleep "${WORKER_PAUSE:-10}"
done
rm -f "$folder/pid"
echo "$status" >"$folder/status"
exit "$status"
