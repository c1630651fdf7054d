"""Studies and embedding passes on several Ray nodes of this machine."""

import os
import re
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from cohort.errors import InputError
from study import Study, shards_on_nodes
from study.cluster import joined_ray
from study.config import Resources
from study.nodes import check_visible
from study.shards_on_nodes import on_nodes
from tests.study.conftest import settings, square_cohort
from tests.study.test_fine_tune_study import fine_tune_settings
from tests.trainables.towers import build_tower
from vlm import embeddings
from vlm.embeddings import embed
from vlm.encoders import load_encoder

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(monkeypatch):
    """Three nodes of one cpu each and a head without, named by RAY_ADDRESS; started without a token, before
    this user had one."""
    assert not ray.is_initialized()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        nodes.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    yield nodes
    nodes.shutdown()


def test_an_embedding_pass_runs_on_all_nodes_and_gives_what_one_machine_does(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD_IMAGES", 4)
    cohort = square_cohort(tmp_path / "cohort", images=96)
    encoder = load_encoder(build_tower("vit", tmp_path / "vit"), device="cpu")
    here = embed(cohort, encoder, tmp_path / "here", precision="fp32")
    compute, notes = shards_on_nodes._features, tmp_path / "nodes"
    notes.mkdir()

    def noted(*arguments):
        (notes / ray.get_runtime_context().get_node_id()).touch()
        return compute(*arguments)

    monkeypatch.setattr(shards_on_nodes, "_features", noted)
    with joined_ray(Resources(), lambda line: None) as capacity:
        there = embed(cohort, encoder, tmp_path / "there", precision="fp32", run_shards=on_nodes(capacity))
    assert capacity.cpus == 3 and len(list(notes.iterdir())) == 3
    np.testing.assert_allclose(there.features_ND, here.features_ND, rtol=0, atol=1e-5)


def test_what_a_shard_refuses_is_said_as_on_one_machine(cluster, tmp_path):
    cohort = square_cohort(tmp_path / "cohort", images=8)
    encoder = load_encoder(build_tower("vit", tmp_path / "vit"), device="cpu")
    encoder.clip.visual.proj.data[0, 0] = np.nan
    with joined_ray(Resources(), lambda line: None) as capacity:
        with pytest.raises(InputError, match="are not finite in fp32") as caught:
            embed(cohort, encoder, tmp_path / "cache", precision="fp32", run_shards=on_nodes(capacity))
    assert "\n" not in str(caught.value)


def run_and_lose_a_node(study, cluster):
    """Run a study; once something is done, kill all processes of a node on which trials train. One that has
    only done the first, published configuration may have nothing to do."""
    lines, done, begun, ended = [], [], threading.Event(), threading.Event()

    def echo(line):
        lines.append(line)
        done.extend(re.findall(r"^ *\d+/\d+ configurations", line))
        if len(done) == 2:
            begun.set()

    def lose():
        begun.wait()
        nodes = {node.node_id: node for node in list(cluster.worker_nodes)}
        while not ended.wait(0.05):
            actors = ray._private.state.actors().values()
            if training := [one["Address"]["NodeID"] for one in actors if one["State"] == "ALIVE"]:
                cluster.remove_node(nodes[training[0]], allow_graceful=False)
                return

    losing = threading.Thread(target=lose)
    losing.start()
    try:
        study.run(echo=echo)
    finally:
        begun.set()
        ended.set()
        losing.join()
    return lines


def table(study):
    columns = ["number", "preset", "state", "val.macro_ap", "val.macro_auroc", "epoch"]
    return study.trials[columns]


def test_a_probe_study_that_loses_a_node_ends_as_if_it_had_not(cluster, tmp_path):
    square_cohort(tmp_path / "cohort")
    # Three banks at a time on three nodes, so that the node that goes was training one.
    given = settings(tmp_path, configurations=256, fixed={"epochs": 150}) | {"resources": {"cpus": 3}}
    lost = Study.from_dict(given)
    lines = run_and_lose_a_node(lost, cluster)
    gone = r"squares: #\d+ to #\d+: the node that trained this is gone"
    assert any(re.search(gone, line) for line in lines), "\n".join(lines)
    cluster.add_node(num_cpus=1)
    undisturbed = Study.from_dict(given | {"name": "undisturbed"}).run(echo=lambda line: None)
    assert table(lost).equals(table(undisturbed)) and "FAIL" not in set(table(lost)["state"])


def test_a_fine_tuning_study_that_loses_a_node_ends_as_if_it_had_not(cluster, tmp_path, monkeypatch):
    square_cohort(tmp_path / "cohort")
    build_tower("vit", tmp_path / "vit")
    given = fine_tune_settings(tmp_path) | {"resources": {"cpus": 3}}
    given["search"] = given["search"] | {"fixed": {"epochs": 120}}  # long enough for a node to go meanwhile
    given["fine_tune"] = given["fine_tune"] | {"early_stopping": "none"}
    monkeypatch.setattr("study.fine_tune.CPUS_A_TRIAL", 1)
    lines = run_and_lose_a_node(Study.from_dict(given), cluster)
    gone = r"tuned: #\d+: the node that trained this is gone"
    assert any(re.search(gone, line) for line in lines), "\n".join(lines)
    lost = Study.open(tmp_path / "runs" / "tuned")
    assert sorted(lost.records) == list(range(6))
    cluster.add_node(num_cpus=1)
    undisturbed = Study.from_dict(given | {"name": "undisturbed"}).run(echo=lambda line: None)
    # What the sampler knew depends on the order of ending, the first configurations do not.
    assert table(lost)[:3].round(6).equals(table(undisturbed)[:3].round(6))


@pytest.fixture
def blind_node(cluster, tmp_path):
    """A fourth node, before whose eyes another disk lies over `tmp_path / "hidden"`."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may give a process other mounts")
    start = f"{sys.executable} -m ray.scripts.scripts start --address {cluster.address} --num-cpus 1 --block"
    node = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs tmpfs {hidden} && exec {start}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield hidden
    node.terminate()
    node.wait(30)


def test_a_node_that_does_not_see_a_folder_is_named_with_it(blind_node, cluster, tmp_path):
    (tmp_path / "seen").mkdir()
    with joined_ray(Resources(cpus=4), lambda line: None):  # waits for the fourth
        check_visible({"cache": tmp_path / "seen"}, on_gpus=False)
        with pytest.raises(InputError) as caught:
            check_visible({"cache": tmp_path / "seen", "checkpoints": blind_node}, on_gpus=False)
    assert re.search(
        rf"node \S+ \(\S+\) does not see {blind_node} of this machine \(checkpoints\)", str(caught.value)
    )
    assert os.listdir(tmp_path / "seen") == os.listdir(blind_node) == []


def test_fine_tuning_whose_nodes_share_no_disk_keeps_its_weights_at_a_uri(s3, cluster, tmp_path, monkeypatch):
    """Each node has a mirror of its own in truth; here they share this machine's, and nothing else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mirrors"))
    square_cohort(tmp_path / "cohort")
    build_tower("vit", tmp_path / "vit")
    places = {"checkpoints": f"{s3}/checkpoints", "cache": f"{s3}/cache", "resources": {"cpus": 2}}
    study = Study.from_dict(fine_tune_settings(tmp_path) | places).run(echo=lambda line: None)
    assert not study.folder.checkpoints.exists() and sorted(study.records) == list(range(6))
    monkeypatch.setenv("XDG_CACHE_HOME", tempfile.mkdtemp(dir=tmp_path))  # another machine
    assert study.export(tmp_path / "bundle").exists()


def test_nodes_that_do_not_come_are_waited_for_and_then_named(cluster, monkeypatch):
    monkeypatch.setattr("study.nodes.NODES_SECONDS", 2)
    lines = []
    with pytest.raises(InputError, match=r"resources\.cpus: 99 asked for, but Ray has 3"):
        with joined_ray(Resources(cpus=99), lines.append):
            pass
    assert "waiting for nodes: 3 of 99 cpus and 0 of 0 gpus are there" in lines
