"""Other runners of Apache Beam make the same files."""

import pytest

from clipa_jax.errors import DataError
from clipa_jax.prepare import dataset
from tests.helpers.prepared import digests, options


def test_another_runner_makes_the_same_files(messy, made, tmp_path):
    """The protocol that Flink and Spark speak, with Beam's job server for Python."""
    arguments = ["--job_endpoint=embed", "--environment_type=LOOPBACK"]
    out = str(tmp_path / "portable")
    dataset.make(options(messy), out, runner="PortableRunner", arguments=arguments)
    assert digests(tmp_path / "portable") == digests(made[0])


def test_two_dask_workers_make_the_same_files(messy, made, tmp_path):
    """Each in a process of its own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c:
        arguments = [f"--dask_client_address={c.scheduler_address}", "--dask_npartitions=4"]
        out = tmp_path / "dask"
        dataset.make(options(messy), str(out), runner="DaskRunner", arguments=arguments)
    assert digests(out) == digests(made[0])


def test_an_unknown_runner_is_refused(messy, tmp_path):
    with pytest.raises(DataError, match="runner NoSuchRunner"):
        dataset.make(options(messy), str(tmp_path / "x"), runner="NoSuchRunner")
