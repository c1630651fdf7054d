"""`cluster.yaml` and `cluster.onprem.yaml`, and a study on the latter from the laptop to the export."""

import getpass
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from study import Study
from tests.cluster.conftest import Machine
from tests.conftest import REPOSITORY
from tests.study.conftest import square_cohort
from vlm.bundle import Bundle

BIN = Path(sys.executable).parent
SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
MACHINES = ("cluster.yaml", "cluster.onprem.yaml")


def machines(name: str) -> dict:
    return yaml.safe_load((REPOSITORY / name).read_text())


@pytest.mark.parametrize("name", MACHINES)
def test_ray_takes_the_file(name):
    pytest.importorskip("jsonschema")
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(machines(name))
    validate_config(config)
    least = sum(kind["min_workers"] for kind in config["available_node_types"].values())
    assert 0 < least <= config["max_workers"]


def test_ray_would_refuse_a_misspelt_key():
    pytest.importorskip("jsonschema")
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(Exception, match="idle_timeout_minute"):
        validate_config(prepare_config(machines("cluster.yaml") | {"idle_timeout_minute": 5}))


@pytest.mark.parametrize("name", MACHINES)
def test_every_ray_starts_behind_the_token_and_shows_the_outside_nothing(name):
    config = machines(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    ray = [command for command in starts if "ray start" in command]
    assert len(ray) == 2 and all("RAY_AUTH_MODE=token" in command for command in ray)
    assert "--dashboard-host=127.0.0.1" in ray[0]
    (mlflow,) = [command for command in starts if "mlflow server" in command]
    assert "--host 127.0.0.1" in mlflow


@pytest.mark.parametrize("name", MACHINES)
def test_every_command_is_bash(name):
    config = machines(name)
    for commands in (value for key, value in config.items() if key.endswith("_commands")):
        for command in commands:
            done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, command + done.stderr


def uploaded(folder: Path) -> Path:
    """What `ray job submit --working-dir .` sends, packed by Ray itself."""
    from ray._private.runtime_env.packaging import create_package

    package = folder / "package.zip"
    create_package(str(REPOSITORY), package, include_gitignore=True)
    return package


def test_the_upload_holds_the_packages_and_little_else(tmp_path):
    package = uploaded(tmp_path)
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    assert {"study/__main__.py", "configs/sample_probe.yaml", "vlm/phantom_clip/open_clip_config.json"} <= {
        *names
    }
    unwanted = ("tests", "docs", "benchmarks", ".git", ".venv", ".ci", "radtune.tar")
    assert not [name for name in names if name.split("/")[0] in unwanted]
    assert package.stat().st_size < 8e6


def serve_ssh(machine: Machine, address: str, key: Path, ray_folder: Path) -> None:
    """Let the owner of a key in, as this user, with a home folder and a Ray folder of the machine's own."""
    user, home, config = pwd.getpwuid(os.getuid()), machine.folder / "home", machine.folder / "sshd_config"
    home.mkdir()
    (home / ".profile").write_text('PATH="$HOME/.local/bin:$PATH"\n')  # as Debian's and Ubuntu's
    (home / "radtune-env").symlink_to(sys.prefix)  # the installation, 7 GB, is this one
    accounts, line = Path("/etc/passwd").read_text(), f":{user.pw_gecos}:{user.pw_dir}:"
    (machine.folder / "passwd").write_text(accounts.replace(line, f":{user.pw_gecos}:{home}:"))
    # Ray's nodes name their folder alike: on one disk they would delete each other's working directories.
    (machine.folder / "ray").mkdir()
    for own, seen_as in (("passwd", "/etc/passwd"), ("ray", str(ray_folder))):
        mount = ["mount", "--bind", str(machine.folder / own), seen_as]
        machine.run(mount, cwd=home, environment={}, timeout=30)
    make_key(machine.folder / "host_key")
    config.write_text(
        f"ListenAddress {address}:22\nHostKey {machine.folder}/host_key\nAuthorizedKeysFile {key}.pub\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
        f"PasswordAuthentication no\nSetEnv RAY_TMPDIR={ray_folder}\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it; Debian makes it at boot
    log = machine.folder / "sshd.log"
    with log.open("w") as errors:
        sshd = machine.start([SSHD, "-D", "-e", "-f", str(config)], stderr=errors)
    for _ in range(100):
        if "Server listening" in log.read_text():
            return
        assert sshd.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def running(machine: Machine) -> str:
    return machine.run(["ps", "-eo", "args"], cwd=machine.folder, environment={}, timeout=30)


def make_key(file: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True, timeout=30)
    return file


@pytest.mark.cluster
@pytest.mark.skipif(not (SSHD and shutil.which("rsync")), reason="apt-get install openssh-server rsync")
def test_a_study_from_the_laptop_to_the_export(pair, tmp_path, capsys):
    """`ray up`, `ray job submit --working-dir .`, `ray exec` of an export, `ray rsync-down`, `ray down`."""
    (head_ip, worker_ip), (head, _) = pair.keys(), pair.values()
    key, laptop, ray_folder = make_key(tmp_path / "key"), head.folder / "laptop", head.folder / "tmp"
    laptop.mkdir()
    ray_folder.mkdir()
    for address, machine in pair.items():
        serve_ssh(machine, address, key, ray_folder)
    environment = {name: str(laptop) for name in ("HOME", "TMPDIR", "RAY_TMPDIR")} | {
        "RAY_AUTH_MODE": "token"
    }

    def ray(*arguments: str, cwd: Path = laptop, timeout: float = 120, code: int = 0, **more: str) -> str:
        command = [str(BIN / "ray"), *arguments]
        return head.run(command, cwd=cwd, environment=environment | more, timeout=timeout, code=code)

    ray("get-auth-token", "--generate")
    archive = ["git", "archive", "--output", str(laptop / "radtune.tar"), "HEAD"]
    subprocess.run(archive, cwd=REPOSITORY, check=True, timeout=60)
    config = machines("cluster.onprem.yaml")
    config["provider"] |= {"head_ip": head_ip, "worker_ips": [worker_ip]}
    config["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": str(key)}
    installing = [command for command in config["setup_commands"] if "bin/pip install" in command]
    assert len(installing) == 1
    config["setup_commands"].remove(installing[0])
    file = str(laptop / "cluster.onprem.yaml")
    Path(file).write_text(yaml.safe_dump(config))

    began = time.time()
    ray("up", "--yes", file)
    up = time.time() - began
    until = time.time() + 120
    while "2 local.cluster.node" not in ray("exec", file, "RAY_AUTH_MODE=token ray status"):
        assert time.time() < until
    joined = time.time() - began
    for machine in pair.values():
        assert (machine.folder / "home" / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600

    square_cohort(tmp_path / "cohort")
    settings = {
        "name": "squares",
        "cohort": tmp_path / "cohort",
        "encoder": "pixels",
        "search.configurations": 16,
        "cache": tmp_path / "cache",
        "tracking.uri": "http://127.0.0.1:5000",
    }
    assigned = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    submit = ["job", "submit", "--address", "http://127.0.0.1:8265", "--working-dir", ".", "--"]
    study = [*submit, "python", "-m", "study", "run", "configs/sample_probe.yaml", *assigned]
    refused = ray(*study, cwd=REPOSITORY, RAY_AUTH_TOKEN="another", code=1)
    assert "authentication token is invalid" in refused
    ended = ray(*study, cwd=REPOSITORY, code=1)
    assert "storage: " in ended and "disposable snapshot" in ended
    ended = ray(*study, "--set", f"storage={tmp_path}/runs", cwd=REPOSITORY, timeout=400)
    assert "succeeded" in ended and "next: radtune analyze" in ended, ended

    run = tmp_path / "runs" / "squares"
    records = Study.open(run).records
    assert sorted(records) == list(range(16)) and "FAIL" not in {record.state for record in records.values()}
    with closing(sqlite3.connect(head.folder / "home" / "mlflow.db")) as mlflow:
        assert mlflow.execute("SELECT COUNT(*) FROM runs").fetchone() == (1 + 16,)
    out = "~/exports/squares"
    ray("exec", file, f"radtune export {run} --out {out} --with-encoder")
    ray("rsync-down", file, f"{out}/", f"{laptop}/squares/")
    image = next((tmp_path / "cohort-images").glob("*.png"))
    assert Bundle.load(laptop / "squares").predict([image]).num_rows == 1

    exported = time.time() - began
    ray("exec", file, "kill -- -$(cat ~/mlflow.pid)")
    ray("down", "--yes", file)
    until = time.time() + 180  # Ray's workers give up a head that is gone after a minute
    for machine in pair.values():
        while still := [
            name for name in ("gcs_server", "raylet", "mlflow server") if name in running(machine)
        ]:
            assert time.time() < until, still
            time.sleep(1)
    with capsys.disabled():
        size = uploaded(tmp_path).stat().st_size
        print(f"\nray up: {up:.0f} s; the worker joined: {joined:.0f} s; export: {exported:.0f} s; ", end="")
        print(f"upload: {size / 1e6:.1f} MB")
