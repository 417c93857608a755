"""The commands for TPU slices and SLURM: as printed, and on a simulated worker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POD = ROOT / "tools" / "tpu" / "pod.py"
WORKER = ROOT / "tools" / "tpu" / "worker.sh"
SUBMIT = ROOT / "tools" / "slurm" / "submit.py"
SLICE = ["--name=clipa", "--zone=us-west4-a"]
TPUS = "gcloud compute tpus"
# Instead of the cloud: what goes to a worker happens in $HOME.
GCLOUD = """#!/usr/bin/env bash
cd "$HOME"
case "$4" in
  ssh) for last; do :; done; exec bash -c "${last#--command=}" ;;
  scp) cp "$5" "${6#*:}" ;;
esac
"""


def call(tool, *arguments, **environment):
    return subprocess.run(
        [sys.executable, tool, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def said(*arguments, **worker):
    """The last line, which a worker said; those before it are the commands."""
    return call(POD, *arguments, **worker).stdout.splitlines()[-1]


def printed(tool, *arguments):
    done = call(tool, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (
            ["--type=v5litepod-64", "--spot", "--valid-until=6h"],
            f"{TPUS} queued-resources create clipa --node-id=clipa "
            "--runtime-version=v2-alpha-tpuv5-lite --zone=us-west4-a "
            "--accelerator-type=v5litepod-64 --spot --valid-until-duration=6h",
        ),
        (
            ["--type=v4-128", "--direct", "--service-account=trainer@project.iam"],
            f"{TPUS} tpu-vm create clipa --version=tpu-ubuntu2204-base --zone=us-west4-a "
            "--accelerator-type=v4-128 --service-account=trainer@project.iam",
        ),
    ],
)
def test_create_requests_a_slice(arguments, command):
    assert printed(POD, "create", *SLICE, *arguments, "--dry-run") == [command]


def test_a_type_without_a_known_runtime_is_refused():
    done = call(POD, "create", *SLICE, "--type=v9-8", "--dry-run")
    assert done.returncode != 0 and "--runtime=" in done.stderr


def test_setup_copies_the_committed_code():
    pack, copy, install = printed(POD, "setup", *SLICE, "--dry-run")
    assert pack.endswith("archive --format=tar.gz --output=/tmp/clipa_jax.tar.gz HEAD")
    target = "clipa:clipa_jax.tar.gz --zone=us-west4-a --worker=all"
    assert copy == f"{TPUS} tpu-vm scp /tmp/clipa_jax.tar.gz {target}"
    assert install.startswith(f"{TPUS} tpu-vm ssh clipa --zone=us-west4-a --worker=all ")
    assert "uv venv --quiet --python 3.12" in install and "-r requirements-tpu.txt" in install


def test_each_runs_a_command_on_every_worker():
    mount = "sudo mkdir -p /mnt/run && sudo mount 10.0.0.2:/run /mnt/run"
    assert printed(POD, "each", *SLICE, "--dry-run", "--", mount) == [
        f"{TPUS} tpu-vm ssh clipa --zone=us-west4-a --worker=all '--command={mount}'"
    ]
    assert call(POD, "each", *SLICE, "--dry-run").returncode != 0


def test_delete_removes_the_slice():
    assert printed(POD, "delete", *SLICE, "--dry-run") == [
        f"{TPUS} queued-resources delete clipa --zone=us-west4-a --force"
    ]
    assert printed(POD, "delete", *SLICE, "--direct", "--yes", "--dry-run") == [
        f"{TPUS} tpu-vm delete clipa --zone=us-west4-a --quiet"
    ]


def test_logs_and_status_read_the_folder_of_the_run():
    assert printed(POD, "logs", *SLICE, "--run=h1", "--dry-run") == [
        f"{TPUS} tpu-vm ssh clipa --zone=us-west4-a --worker=0 "
        "'--command=tail -n 100 -F clipa_jax/runs/h1/log'"
    ]
    listed, described = printed(POD, "status", *SLICE, "--dry-run")
    assert listed.startswith(f"{TPUS} tpu-vm list") and "describe clipa" in described


def test_no_command_kills_by_name_or_contains_a_secret():
    text = "".join(file.read_text() for file in (POD, WORKER, SUBMIT))
    assert "pkill" not in text and "killall" not in text
    assert "--env" not in text and "API_KEY=$" not in text


@pytest.mark.parametrize("name", ["h1; rm -rf /", "", "$(id)", "../x y"])
def test_names_with_shell_syntax_are_refused(name):
    assert call(POD, "stop", *SLICE, f"--run={name}", "--dry-run").returncode == 2


@pytest.fixture
def worker(tmp_path):
    """The environment of a simulated worker, with a command that says what it is given."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").write_text(GCLOUD)
    (tmp_path / "bin" / "gcloud").chmod(0o755)
    home = tmp_path / "home"
    python = home / "clipa_jax" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/usr/bin/env bash\n"
        "trap 'echo saved; exit 143' TERM\n"
        'echo "$@ key=${WANDB_API_KEY:-none}"\n'
        'if [ "$3" = fail ]; then exit 7; fi\n'
        "while :; do sleep 0.05; done\n"
    )
    python.chmod(0o755)
    (home / "clipa_jax" / "tools" / "tpu").mkdir(parents=True)
    shutil.copy(WORKER, home / "clipa_jax" / "tools" / "tpu")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "WORKER_PAUSE": "0"}


def until(happened):
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read(worker, run, name):
    file = Path(worker["HOME"]) / "clipa_jax" / "runs" / run / name
    return file.read_text() if file.exists() else ""


def test_a_run_is_detached_and_only_this_run_is_stopped(worker, tmp_path):
    (tmp_path / "secret").write_text("WANDB_API_KEY=mine\n")
    assert call(POD, "secrets", *SLICE, f"--file={tmp_path / 'secret'}", **worker).returncode == 0
    for run in ("h1", "h10"):
        arguments = ["--", "--config=c.py", "--config.stages=('pretrain',)"]
        done = call(POD, "run", *SLICE, f"--run={run}", *arguments, **worker)
        assert done.returncode == 0, done.stderr
        assert "mine" not in done.stdout
        until(lambda run=run: read(worker, run, "log"))
    expected = "-m clipa_jax.train --config=c.py --config.stages=('pretrain',) key=mine\n"
    assert read(worker, "h1", "log") == expected
    again = call(POD, "run", *SLICE, "--run=h1", "--", "--config=c.py", **worker)
    assert again.returncode == 1
    assert again.stdout.splitlines()[-2] == "h1 is running already"
    assert (
        f"\nrunning as {read(worker, 'h1', 'pid')}"
        in call(POD, "status", *SLICE, "--run=h1", **worker).stdout
    )

    assert call(POD, "stop", *SLICE, "--run=h1", **worker).returncode == 0
    until(lambda: read(worker, "h1", "status"))
    assert read(worker, "h1", "log") == expected + "saved\n"
    assert read(worker, "h1", "status") == "143\n"
    assert said("stop", *SLICE, "--run=h1", **worker) == "not running"

    other = int(read(worker, "h10", "pid"))
    mine = Path(worker["HOME"]) / "clipa_jax" / "runs" / "h1" / "pid"
    mine.write_text(str(other))  # as if the id had come round to another run's process
    assert said("stop", *SLICE, "--run=h1", **worker) == "not running"
    os.kill(other, 0)  # lives
    os.kill(other, signal.SIGTERM)
    until(lambda: read(worker, "h10", "status"))


KEEP = ["--type=v5litepod-16", "--run=h1", "--price=0.6", "--max-dollars=100", "--poll=0.05"]
# A cloud with one slice, whose state is in a file; it is set up anew after each creation.
CLOUD = """#!/usr/bin/env bash
cd "$HOME"
echo "$@" >> ../calls
case "$3 $4" in
  "queued-resources describe")
    [ ! -f ../offline ] || { rm ../offline; echo "no network" >&2; exit 1; }
    cat ../state 2>/dev/null || { echo "NOT_FOUND: clipa" >&2; exit 1; } ;;
  "queued-resources create") echo ACTIVE > ../state; rm -rf clipa_jax/runs ;;
  "queued-resources delete") rm -f ../state ;;
  "tpu-vm ssh") for last; do :; done
    case "$last" in *tar*) ;; *) exec bash -c "${last#--command=}" ;; esac ;;
esac
"""


@pytest.fixture
def cloud(worker, tmp_path):
    (tmp_path / "bin" / "gcloud").write_text(CLOUD)
    python = Path(worker["HOME"]) / "clipa_jax" / ".venv" / "bin" / "python"
    # The first slice is taken away during the run, on the second one it ends.
    python.write_text(
        "#!/usr/bin/env bash\n"
        f'echo run >> {tmp_path}/runs; if [ "$3" = fail ]; then exit 7; fi\n'
        f"if [ $(wc -l < {tmp_path}/runs) = 1 ]; then "
        f"echo SUSPENDED > {tmp_path}/state; sleep 9; fi\n"
    )
    return worker


def kept(cloud, tmp_path, *arguments):
    done = call(POD, "keep", *SLICE, *KEEP, f"--state={tmp_path}/k.json", *arguments, **cloud)
    calls = (tmp_path / "calls").read_text()
    return done, json.loads((tmp_path / "k.json").read_text()), calls


def test_keep_recreates_a_slice_that_was_taken_away(cloud, tmp_path):
    (tmp_path / "offline").touch()  # a failed question is not a missing slice
    done, spent, calls = kept(cloud, tmp_path, "--", "--config=c.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert calls.count("resources create") == spent["attempts"] == 2
    assert calls.count("resources delete") == 2
    assert calls.count("--spot") == 2
    assert not (tmp_path / "state").exists()


def test_keep_stops_at_the_bound_on_slices(cloud, tmp_path):
    done, spent, _ = kept(cloud, tmp_path, "--attempts=1", "--", "--config=c.py")
    assert done.returncode == 1 and spent["attempts"] == 1
    assert "1 slices were created" in done.stderr


def test_keep_saves_and_deletes_at_the_bound_on_money(cloud, tmp_path):
    done, _, calls = kept(cloud, tmp_path, "--max-dollars=0", "--", "--config=c.py")
    assert done.returncode == 1 and "resources delete" in calls
    assert "resources create" not in calls


def test_keep_gives_up_on_a_command_that_fails(cloud, tmp_path):
    done, spent, _ = kept(cloud, tmp_path, "--restarts=0", "--", "fail")
    assert done.returncode == 7 and spent["attempts"] == 1
    assert not (tmp_path / "state").exists()


def test_a_dry_run_of_keep_prints_the_commands_of_a_slice():
    lines = printed(POD, "keep", *SLICE, *KEEP, "--dry-run", "--", "--config=c.py")
    assert [line.split()[4] for line in lines if line.startswith(TPUS)] == (
        ["describe", "create", "describe", "ssh", "scp", "ssh", "ssh", "ssh", "delete"]
    )
    assert lines[-1] == "at most 50 slices and 10.4 hours of 16 chips"


def test_a_reused_pid_is_not_killed(worker):
    folder = Path(worker["HOME"]) / "clipa_jax" / "runs" / "h1"
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (folder / "pid").write_text(str(stranger.pid))
        assert said("stop", *SLICE, "--run=h1", **worker) == "not running"
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_a_failed_run_is_restarted_a_few_times(worker):
    arguments = ["--run=h1", "--restarts=2", "--", "fail"]
    assert call(POD, "run", *SLICE, *arguments, **worker).returncode == 0
    until(lambda: read(worker, "h1", "status"))
    assert read(worker, "h1", "status") == "7\n"
    assert read(worker, "h1", "log").count("clipa_jax.train fail") == 3


def test_secrets_readable_by_others_are_not_used(worker):
    file = Path(worker["HOME"]) / ".config" / "clipa_jax" / "env"
    file.parent.mkdir(parents=True)
    file.write_text("WANDB_API_KEY=mine\n")
    file.chmod(0o644)
    assert call(POD, "run", *SLICE, "--run=h1", "--", "--config=c.py", **worker).returncode == 0
    until(lambda: read(worker, "h1", "status"))
    assert "chmod 600" in read(worker, "h1", "log")
    assert "clipa_jax.train" not in read(worker, "h1", "log")


def test_the_slurm_command_has_a_process_for_each_gpu():
    assert printed(
        *(SUBMIT, "--nodes=2", "--gpus=4", "--partition=gpu", "--dry-run", "--"),
        *("--config=configs/model_h/schedule.py", "--workdir=/scratch/h"),
    ) == [
        "sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --time=24:00:00 "
        f"--export=ALL --partition=gpu {SUBMIT.with_name('train.sbatch')} "
        "--config=configs/model_h/schedule.py --workdir=/scratch/h"
    ]


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (143, True), (1, False)])
def test_a_job_that_saved_on_a_signal_is_requeued(tmp_path, status, requeued):
    for name, body in (("srun", f'echo "$@" > {tmp_path}/srun; exit {status}'), ("scontrol", "")):
        (tmp_path / name).write_text(f'#!/usr/bin/env bash\necho "{name} $*"\n{body}\n')
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"}
    done = subprocess.run(
        ["bash", SUBMIT.with_name("train.sbatch"), "--config=c.py"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert ("scontrol requeue 42" in done.stdout) == requeued
    assert "-m clipa_jax.train --config=c.py" in (tmp_path / "srun").read_text()


@pytest.mark.parametrize("script", [WORKER, SUBMIT.with_name("train.sbatch")])
def test_shell_scripts_parse(script):
    checker = ["shellcheck"] if shutil.which("shellcheck") else ["bash", "-n"]
    done = subprocess.run([*checker, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
