"""What Kubernetes and KubeRay would refuse of `raycluster.yaml` and `rayjob.yaml`, found without either."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY

KUBERNETES = "1.33"
jsonschema = pytest.importorskip("jsonschema")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
SCHEMA = json.loads((Path(__file__).parent / "kuberay_schema.json").read_text())
FILES = ("raycluster.yaml", "rayjob.yaml")


def resources(name: str) -> list[dict]:
    return list(yaml.safe_load_all((REPOSITORY / "docs" / "cluster" / name).read_text()))


def check(resource: dict) -> None:
    """Raises what jsonschema or kubernetes_validate raises; an unknown field is one of their errors."""
    if resource["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        return
    jsonschema.Draft202012Validator(SCHEMA).validate(resource)
    for group in groups(resource):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def cluster(resource: dict) -> dict:
    return resource["spec"].get("rayClusterSpec", resource["spec"])


def groups(resource: dict) -> list[dict]:
    return [cluster(resource)["headGroupSpec"], *cluster(resource)["workerGroupSpecs"]]


@pytest.mark.parametrize("name", FILES)
def test_every_resource_fits_its_schema(name):
    for resource in resources(name):
        check(resource)


def test_a_misspelt_field_is_found_at_every_depth():
    job = resources("rayjob.yaml")[0]
    for at, key, value in (
        ([], "submission", "SidecarMode"),
        ([], "submissionMode", "Sidecar"),
        (["rayClusterSpec", "authOptions"], "mode", "tokens"),
        (["rayClusterSpec", "headGroupSpec"], "restartPolicy", "Never"),
        (["rayClusterSpec", "workerGroupSpecs", 0], "minReplicas", "2"),
        (["rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0], "mounts", []),
    ):
        changed = deepcopy(job)
        place = changed["spec"]
        for step in at:
            place = place[step]
        place[key] = value
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            check(changed)


@pytest.mark.parametrize("name", FILES)
def test_every_pod_has_the_shared_volume_and_the_ray_of_the_image(name):
    resource = resources(name)[0]
    base = (REPOSITORY / "docs" / "cluster" / "Dockerfile").read_text().split("FROM rayproject/ray:")[1]
    pinned = (REPOSITORY / "constraints.txt").read_text()
    version = cluster(resource)["rayVersion"]
    assert base.startswith(f"{version}-") and f"\nray=={version}\n" in pinned
    assert cluster(resource)["authOptions"] == {"mode": "token"}
    for group in groups(resource):
        (container,) = group["template"]["spec"]["containers"]
        named = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == named
        assert "/mnt/radtune" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_what_the_operator_refuses_beyond_the_schema():
    """KubeRay's own checks, which no schema states: `ValidateRayJobSpec` and `ValidateRayClusterSpec`."""
    (job,) = resources("rayjob.yaml")
    assert job["spec"]["submissionMode"] == "SidecarMode"
    assert cluster(job)["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert not {"clusterSelector", "submitterPodTemplate", "submitterConfig"} & job["spec"].keys()
    assert job["spec"]["shutdownAfterJobFinishes"]  # or ttlSecondsAfterFinished is refused
    standing = resources("raycluster.yaml")[0]
    assert standing["spec"]["gcsFaultToleranceOptions"]["redisAddress"]
    for group in groups(standing):  # autoscaler v2
        assert group["template"]["spec"].get("restartPolicy", "Never") == "Never"
