"""What Kubernetes would refuse of `raycluster.yaml` and `rayjob.yaml`, and KubeRay of their values, found
without either."""

from copy import deepcopy

import pytest
import yaml

from tests.conftest import REPOSITORY

KUBERNETES = "1.33"
kubernetes_validate = pytest.importorskip("kubernetes_validate")
FILES = ("raycluster.yaml", "rayjob.yaml")


def resources(name: str) -> list[dict]:
    return list(yaml.safe_load_all((REPOSITORY / "docs" / "cluster" / name).read_text()))


def check(resource: dict) -> None:
    """ValidationError for what Kubernetes' own schemas refuse, unknown fields too; of KubeRay's resources the
    pod templates, for its CRDs are in no package."""
    if resource["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        return
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


@pytest.mark.parametrize(
    ("at", "key", "value"),
    [
        (["headGroupSpec", "template"], "specs", {}),
        (["headGroupSpec", "template", "spec"], "restartPolicy", 1),
        (["workerGroupSpecs", 0, "template", "spec", "containers", 0], "mounts", []),
    ],
)
def test_a_misspelt_field_of_a_pod_is_found(at, key, value):
    place = cluster(changed := deepcopy(resources("rayjob.yaml")[0]))
    for step in at:
        place = place[step]
    place[key] = value
    with pytest.raises(kubernetes_validate.ValidationError):
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
