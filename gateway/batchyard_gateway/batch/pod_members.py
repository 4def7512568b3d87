"""
Pod members: what AWS's members of Amazon EKS may look like; a part of `members`.

Data alone, with the same law.
"""

from __future__ import annotations

from .shapes import Flag, Items, Shape, Structure, Table, Text, Whole, Words

TEXT, LONG, FLAG, TABLE = Text(), Whole(64), Flag(), Table()
TEXTS = Items(TEXT)

ACCESS_ENTRY = Structure(
    {"desiredState*": Words(("ENABLED", "DISABLED", "INHERIT_FROM_CLUSTER")), "status": Words(("ACTIVE", "INACTIVE"))}
)
EKS_CONFIGURATION = Structure({"eksClusterArn*": TEXT, "kubernetesNamespace*": TEXT, "accessEntry": ACCESS_ENTRY})
EKS_CONFIGURATION_UPDATE = Structure({"accessEntry": ACCESS_ENTRY})

_ENV = Items(Structure({"name*": TEXT, "value": TEXT}))
_QUANTITY = Text(1, 256)
_AMOUNTS = Table(TEXT, _QUANTITY)
_RESOURCES = Structure({"limits": _AMOUNTS, "requests": _AMOUNTS})
_CAPABILITIES = Items(Text(1, 128), 0, 64)
_SECCOMP = Structure({"type*": Words(("RuntimeDefault", "Localhost", "Unconfined")), "localhostProfile": Text(1, 4095)})
_RUN_AS: dict[str, Shape] = {"runAsUser": LONG, "runAsGroup": LONG, "runAsNonRoot": FLAG, "seccompProfile": _SECCOMP}
_CONTAINERS = Items(
    Structure(
        {
            "name": TEXT,
            "image*": TEXT,
            "imagePullPolicy": TEXT,
            "command": TEXTS,
            "args": TEXTS,
            "env": _ENV,
            "resources": _RESOURCES,
            "volumeMounts": Items(Structure({"name": TEXT, "mountPath": TEXT, "subPath": TEXT, "readOnly": FLAG})),
            "securityContext": Structure(
                {
                    "privileged": FLAG,
                    "allowPrivilegeEscalation": FLAG,
                    "readOnlyRootFilesystem": FLAG,
                    "capabilities": Structure({"add": _CAPABILITIES, "drop": _CAPABILITIES}),
                    **_RUN_AS,
                }
            ),
        }
    )
)
_METADATA = Structure({"labels": TABLE, "annotations": TABLE, "namespace": TEXT})
EKS_PROPERTIES = Structure(
    {
        "podProperties": Structure(
            {
                "serviceAccountName": TEXT,
                "hostNetwork": FLAG,
                "dnsPolicy": TEXT,
                "imagePullSecrets": Items(Structure({"name*": TEXT})),
                "containers": _CONTAINERS,
                "initContainers": _CONTAINERS,
                "volumes": Items(
                    Structure(
                        {
                            "name*": TEXT,
                            "hostPath": Structure({"path": TEXT}),
                            "emptyDir": Structure({"medium": TEXT, "sizeLimit": _QUANTITY}),
                            "secret": Structure({"secretName*": TEXT, "optional": FLAG}),
                            "persistentVolumeClaim": Structure({"claimName*": TEXT, "readOnly": FLAG}),
                        }
                    )
                ),
                "metadata": _METADATA,
                "shareProcessNamespace": FLAG,
                "securityContext": Structure({"fsGroup": LONG, **_RUN_AS}),
            }
        )
    }
)
_OVERRIDES = Items(
    Structure({"name": TEXT, "image": TEXT, "command": TEXTS, "args": TEXTS, "env": _ENV, "resources": _RESOURCES})
)
EKS_PROPERTIES_OVERRIDE = Structure(
    {"podProperties": Structure({"containers": _OVERRIDES, "initContainers": _OVERRIDES, "metadata": _METADATA})}
)
