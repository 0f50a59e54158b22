# SPDX-License-Identifier: GPL-2.0-only
"""What can be said of a manifest without a cluster: that it parses, and that its parts agree."""

import sys

import yaml


def pod_of(thing):
    return thing["spec"]["template"]["spec"]


def check(path):
    with open(path, encoding="utf-8") as file:
        things = [thing for thing in yaml.safe_load_all(file) if thing]
    kinds = {}
    for thing in things:
        for key in ("apiVersion", "kind", "metadata"):
            assert key in thing, f"{thing}: no {key}"
        kinds[thing["kind"], thing["metadata"]["name"]] = thing
    versions = {
        "Namespace": "v1", "ServiceAccount": "v1", "ConfigMap": "v1", "DaemonSet": "apps/v1",
        "Role": "rbac.authorization.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1",
    }
    namespaces = {name for kind, name in kinds if kind == "Namespace"}
    for (kind, name), thing in kinds.items():
        assert versions.get(kind) == thing["apiVersion"], f"{kind} {name}: {thing['apiVersion']}"
        if kind != "Namespace":
            assert thing["metadata"].get("namespace") in namespaces, f"{kind} {name}: namespace"

    (daemon,) = [thing for thing in things if thing["kind"] == "DaemonSet"]
    pod = pod_of(daemon)
    labels = daemon["spec"]["template"]["metadata"]["labels"]
    assert daemon["spec"]["selector"]["matchLabels"].items() <= labels.items(), "selector"
    assert ("ServiceAccount", pod["serviceAccountName"]) in kinds, "service account"
    assert pod["hostPID"] and pod["hostNetwork"], "the host's namespaces"
    (binding,) = [thing for thing in things if thing["kind"] == "RoleBinding"]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in kinds, "role"

    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert len(volumes) == len(pod["volumes"]), "two volumes of one name"
    used = set()
    for container in pod["containers"]:
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes, f"mount of no volume: {mount}"
            used.add(mount["name"])
            host = volumes[mount["name"]].get("hostPath")
            # Tidemark looks for things where they are on the host.
            assert not host or host["path"] == mount["mountPath"], f"elsewhere: {mount}"
        security = container["securityContext"]
        assert not security["privileged"] and security["capabilities"]["drop"] == ["ALL"]
    assert used == set(volumes), f"volumes nobody mounts: {set(volumes) - used}"
    for volume in volumes.values():
        assert "configMap" not in volume or ("ConfigMap", volume["configMap"]["name"]) in kinds
    return kinds


def podman_options(kinds, config):
    """What `podman run` has to be told to start the daemon as the manifest has it."""
    pod = pod_of(kinds["DaemonSet", "tidemark"])
    (container,) = pod["containers"]
    security = container["securityContext"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    yield from ("--pid", "host", "--network", "host", "--cap-drop", "all")
    for capability in security["capabilities"]["add"]:
        yield from ("--cap-add", capability)
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    yield from ("--read-only", "--security-opt", "no-new-privileges")
    assert security["seccompProfile"]["type"] == "Unconfined"
    yield from ("--security-opt", "seccomp=unconfined")
    for mount in container["volumeMounts"]:
        host = volumes[mount["name"]].get("hostPath", {}).get("path", config)
        options = ["ro"] if mount.get("readOnly") else ["rw"]
        if mount.get("mountPropagation") == "HostToContainer":
            options.append("rslave")
        yield from ("-v", f"{host}:{mount['mountPath']}:{','.join(options)}")


def main(path, config=None):
    kinds = check(path)
    if not config:
        print(len(kinds), "objects")
        return
    with open(config + "/tidemark.yaml", "w", encoding="utf-8") as out:
        out.write(kinds["ConfigMap", "tidemark"]["data"]["tidemark.yaml"])
    (container,) = pod_of(kinds["DaemonSet", "tidemark"])["containers"]
    print("\n".join(podman_options(kinds, config)))
    print("--entrypoint=" + container["command"][0])
    print("tidemark")
    print("\n".join(container["command"][1:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
