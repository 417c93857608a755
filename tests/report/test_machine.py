"""The command line and the commit of a run."""

import subprocess

from clipa_jax.report import machine


def test_the_commit_is_that_of_the_checkout_of_the_package_alone(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert machine.commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")
    assert machine.commit(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert machine.commit(tmp_path) == f"{head}-dirty"
    (tmp_path / "site-packages").mkdir()
    assert machine.commit(tmp_path / "site-packages") is None  # a folder inside another checkout


def test_the_command_line_can_be_run_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/clipa-train", "--config=a b.py"])
    assert machine.command().endswith(" '--config=a b.py'")
