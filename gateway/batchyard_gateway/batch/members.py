"""
Members: what each operation takes, as tables by AWS's own names.

Data alone. Law: every member of AWS's model is here with its type, words and bounds
(a test compares the two), so that nothing given is lost; parts that Batchyard does not
offer are ``Anything``, and are refused where they are given.
"""

from __future__ import annotations

from dataclasses import replace

from . import rules
from .pod_members import EKS_CONFIGURATION, EKS_CONFIGURATION_UPDATE, EKS_PROPERTIES, EKS_PROPERTIES_OVERRIDE
from .shapes import Anything, Flag, Items, Number, Shape, Structure, Table, Text, Whole, Words

TEXT, WHOLE, LONG, FLAG, ANYTHING = Text(), Whole(), Whole(64), Flag(), Anything()
TEXTS, TABLE = Items(TEXT), Table()
TAGS = Table(Text(1, 128), Text(0, 256), 0, 50)
"""Tags of something new: the model asks for one at least, yet AWS takes none, and Airflow sends none."""
STATE = Words(("ENABLED", "DISABLED"))
JOB_STATUS = Words(rules.JOB_STATUSES)

# Compute environments -----------------------------------------------------------

COMPUTE_ENVIRONMENT_TYPE = Words(("MANAGED", "UNMANAGED"))
CAPACITY_TYPE = Words(("EC2", "SPOT", "FARGATE", "FARGATE_SPOT", "ECS_MANAGED_INSTANCES"))
_LATER_STRATEGIES = (
    "BEST_FIT_PROGRESSIVE",
    "BEST_FIT_PROGRESSIVE_ORDERED",
    "SPOT_CAPACITY_OPTIMIZED",
    "SPOT_PRICE_CAPACITY_OPTIMIZED",
    "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED",
)
_USERDATA_TYPE = Words(("EKS_BOOTSTRAP_SH", "EKS_NODEADM"))
_TEMPLATE: dict[str, Shape] = {
    "launchTemplateId": TEXT,
    "launchTemplateName": TEXT,
    "version": TEXT,
    "userdataType": _USERDATA_TYPE,
}
_LAUNCH_TEMPLATE = Structure({**_TEMPLATE, "overrides": Items(Structure({**_TEMPLATE, "targetInstanceTypes": TEXTS}))})
_NAME = Text(1, 256)
_EC2_CONFIGURATION = Structure(
    {"imageType*": _NAME, "imageIdOverride": _NAME, "batchImageStatus": TEXT, "imageKubernetesVersion": _NAME}
)
_COMPUTE_RESOURCES: dict[str, Shape] = {
    "minvCpus": WHOLE,
    "desiredvCpus": WHOLE,
    "instanceTypes": TEXTS,
    "imageId": TEXT,
    "subnets": TEXTS,
    "securityGroupIds": TEXTS,
    "ec2KeyPair": TEXT,
    "instanceRole": TEXT,
    "tags": TABLE,
    "placementGroup": TEXT,
    "bidPercentage": WHOLE,
    "launchTemplate": _LAUNCH_TEMPLATE,
    "ec2Configuration": Items(_EC2_CONFIGURATION),
    "scalingPolicy": Structure({"minScaleDownDelayMinutes": WHOLE}),
    "managedInstancesProvider": ANYTHING,
    "capacityTags": TAGS,
}
_ECS_SETTINGS = Structure({"containerInsights": Words(("ENABLED", "ENHANCED", "DISABLED"))})

CREATE_COMPUTE_ENVIRONMENT = Structure(
    {
        "computeEnvironmentName*": TEXT,
        "type*": COMPUTE_ENVIRONMENT_TYPE,
        "state": STATE,
        "unmanagedvCpus": WHOLE,
        "computeResources": Structure(
            {
                "type*": CAPACITY_TYPE,
                "allocationStrategy": Words(("BEST_FIT", *_LATER_STRATEGIES)),
                "maxvCpus*": WHOLE,
                "spotIamFleetRole": TEXT,
                **_COMPUTE_RESOURCES,
            }
        ),
        "serviceRole": TEXT,
        "tags": TAGS,
        "eksConfiguration": EKS_CONFIGURATION,
        "context": TEXT,
        "ecsSettings": _ECS_SETTINGS,
    }
)
UPDATE_COMPUTE_ENVIRONMENT = Structure(
    {
        "computeEnvironment*": TEXT,
        "state": STATE,
        "unmanagedvCpus": WHOLE,
        "computeResources": Structure(
            {
                "type": CAPACITY_TYPE,
                "allocationStrategy": Words(_LATER_STRATEGIES),
                "maxvCpus": WHOLE,
                "updateToLatestImageVersion": FLAG,
                **_COMPUTE_RESOURCES,
            }
        ),
        "serviceRole": TEXT,
        "updatePolicy": Structure({"terminateJobsOnUpdate": FLAG, "jobExecutionTimeoutMinutes": LONG}),
        "context": TEXT,
        "ecsSettings": _ECS_SETTINGS,
        "eksConfiguration": EKS_CONFIGURATION_UPDATE,
    }
)
DELETE_COMPUTE_ENVIRONMENT = Structure({"computeEnvironment*": TEXT})
_PAGE: dict[str, Shape] = {"maxResults": WHOLE, "nextToken": TEXT}
DESCRIBE_COMPUTE_ENVIRONMENTS = Structure({"computeEnvironments": TEXTS, **_PAGE})

# Job queues -----------------------------------------------------------------------

_QUEUE: dict[str, Shape] = {
    "state": STATE,
    "schedulingPolicyArn": TEXT,
    "computeEnvironmentOrder": Items(Structure({"order*": WHOLE, "computeEnvironment*": TEXT})),
    "serviceEnvironmentOrder": ANYTHING,
    "jobStateTimeLimitActions": Items(
        Structure(
            {
                "reason*": TEXT,
                "state*": Words(("RUNNABLE",)),
                "maxTimeSeconds*": WHOLE,
                "action*": Words(("CANCEL", "TERMINATE")),
            }
        )
    ),
}
CREATE_JOB_QUEUE = Structure(
    {
        "jobQueueName*": TEXT,
        "priority*": WHOLE,
        "jobQueueType": Words(("EKS", "ECS", "ECS_FARGATE", "SAGEMAKER_TRAINING", "ECS_MANAGED_INSTANCES")),
        "tags": TAGS,
        **_QUEUE,
    }
)
UPDATE_JOB_QUEUE = Structure({"jobQueue*": TEXT, "priority": WHOLE, **_QUEUE})
DELETE_JOB_QUEUE = Structure({"jobQueue*": TEXT})
GET_JOB_QUEUE_SNAPSHOT = Structure({"jobQueue*": TEXT})
DESCRIBE_JOB_QUEUES = Structure({"jobQueues": TEXTS, **_PAGE})

# Scheduling policies ----------------------------------------------------------------

_POLICY: dict[str, Shape] = {
    "quotaSharePolicy": Structure({"idleResourceAssignmentStrategy*": Words(("FIFO",))}),
    "fairsharePolicy": Structure(
        {
            "shareDecaySeconds": WHOLE,
            "computeReservation": WHOLE,
            "shareDistribution": Items(Structure({"shareIdentifier*": TEXT, "weightFactor": Number()})),
        }
    ),
}
CREATE_SCHEDULING_POLICY = Structure({"name*": TEXT, "tags": TAGS, **_POLICY})
UPDATE_SCHEDULING_POLICY = Structure({"arn*": TEXT, **_POLICY})
DELETE_SCHEDULING_POLICY = Structure({"arn*": TEXT})
DESCRIBE_SCHEDULING_POLICIES = Structure({"arns*": TEXTS})
LIST_SCHEDULING_POLICIES = Structure(_PAGE)

# Quota shares -----------------------------------------------------------------------

_SHARE: dict[str, Shape] = {
    "capacityLimits": Items(Structure({"maxCapacity*": WHOLE, "capacityUnit*": TEXT})),
    "resourceSharingConfiguration": Structure(
        {"strategy*": Words(("RESERVE", "LEND", "LEND_AND_BORROW")), "borrowLimit": WHOLE}
    ),
    "preemptionConfiguration": Structure({"inSharePreemption*": Words(("ENABLED", "DISABLED"))}),
    "state": STATE,
}
CREATE_QUOTA_SHARE = Structure(
    {
        "quotaShareName*": TEXT,
        "jobQueue*": TEXT,
        **{f"{name}*" if name != "state" else name: shape for name, shape in _SHARE.items()},
        "tags": TAGS,
    }
)
UPDATE_QUOTA_SHARE = Structure({"quotaShareArn*": TEXT, **_SHARE})
DELETE_QUOTA_SHARE = Structure({"quotaShareArn*": TEXT})
DESCRIBE_QUOTA_SHARE = Structure({"quotaShareArn*": TEXT})
LIST_QUOTA_SHARES = Structure({"jobQueue*": TEXT, **_PAGE})

# Consumable resources ---------------------------------------------------------------

_FILTERS = Items(Structure({"name": TEXT, "values": TEXTS}))
CREATE_CONSUMABLE_RESOURCE = Structure(
    {"consumableResourceName*": TEXT, "totalQuantity": LONG, "resourceType": TEXT, "tags": TAGS}
)
UPDATE_CONSUMABLE_RESOURCE = Structure(
    {"consumableResource*": TEXT, "operation": TEXT, "quantity": LONG, "clientToken": Text(1, 64)}
)
DELETE_CONSUMABLE_RESOURCE = Structure({"consumableResource*": TEXT})
DESCRIBE_CONSUMABLE_RESOURCE = Structure({"consumableResource*": TEXT})
LIST_CONSUMABLE_RESOURCES = Structure({"filters": _FILTERS, **_PAGE})
LIST_JOBS_BY_CONSUMABLE_RESOURCE = Structure({"consumableResource*": TEXT, "filters": _FILTERS, **_PAGE})
_NEEDS = Structure({"consumableResourceList": Items(Structure({"consumableResource": TEXT, "quantity": LONG}))})

# Job definitions ------------------------------------------------------------------

_SECRETS = Items(Structure({"name*": TEXT, "valueFrom*": TEXT}))
_ENVIRONMENT = Items(Structure({"name": TEXT, "value": TEXT}))
_RESOURCE_REQUIREMENTS = Items(Structure({"value*": TEXT, "type*": Words(("GPU", "VCPU", "MEMORY"))}))
_LINUX_PARAMETERS = Structure(
    {
        "devices": Items(
            Structure(
                {
                    "hostPath*": TEXT,
                    "containerPath": TEXT,
                    "permissions": Items(Words(("READ", "WRITE", "MKNOD"))),
                }
            )
        ),
        "initProcessEnabled": FLAG,
        "sharedMemorySize": WHOLE,
        "tmpfs": Items(Structure({"containerPath*": TEXT, "size*": WHOLE, "mountOptions": TEXTS})),
        "maxSwap": WHOLE,
        "swappiness": WHOLE,
    }
)
_LOG_CONFIGURATION = Structure(
    {
        "logDriver*": Words(("json-file", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "awsfirelens")),
        "options": TABLE,
        "secretOptions": _SECRETS,
    }
)
_EFS_VOLUME = Structure(
    {
        "fileSystemId*": TEXT,
        "rootDirectory": TEXT,
        "transitEncryption": STATE,
        "transitEncryptionPort": WHOLE,
        "authorizationConfig": Structure({"accessPointId": TEXT, "iam": STATE}),
    }
)
_S3_VOLUME = Structure(
    {"fileSystemArn*": TEXT, "rootDirectory": TEXT, "transitEncryptionPort": WHOLE, "accessPointArn": TEXT}
)
_VOLUMES = Items(
    Structure(
        {
            "host": Structure({"sourcePath": TEXT}),
            "name": TEXT,
            "efsVolumeConfiguration": _EFS_VOLUME,
            "s3filesVolumeConfiguration": _S3_VOLUME,
        }
    )
)
_NETWORK = Structure({"assignPublicIp": STATE})
_PLATFORM = Structure({"operatingSystemFamily": TEXT, "cpuArchitecture": TEXT})
_EPHEMERAL_STORAGE = Structure({"sizeInGiB*": WHOLE})
_ANY_CONTAINER: dict[str, Shape] = {
    "command": TEXTS,
    "environment": _ENVIRONMENT,
    "linuxParameters": _LINUX_PARAMETERS,
    "logConfiguration": _LOG_CONFIGURATION,
    "mountPoints": Items(Structure({"containerPath": TEXT, "readOnly": FLAG, "sourceVolume": TEXT})),
    "privileged": FLAG,
    "readonlyRootFilesystem": FLAG,
    "repositoryCredentials": Structure({"credentialsParameter*": TEXT}),
    "resourceRequirements": _RESOURCE_REQUIREMENTS,
    "secrets": _SECRETS,
    "ulimits": Items(Structure({"hardLimit*": WHOLE, "name*": TEXT, "softLimit*": WHOLE})),
    "user": TEXT,
}
CONTAINER_PROPERTIES = Structure(
    {
        "image": TEXT,
        "vcpus": WHOLE,
        "memory": WHOLE,
        "jobRoleArn": TEXT,
        "executionRoleArn": TEXT,
        "volumes": _VOLUMES,
        "instanceType": TEXT,
        "networkConfiguration": _NETWORK,
        "fargatePlatformConfiguration": Structure({"platformVersion": TEXT}),
        "enableExecuteCommand": FLAG,
        "ephemeralStorage": _EPHEMERAL_STORAGE,
        "runtimePlatform": _PLATFORM,
        **_ANY_CONTAINER,
    }
)
_TASK_CONTAINER = Structure(
    {
        "dependsOn": Items(Structure({"containerName": TEXT, "condition": TEXT})),
        "essential": FLAG,
        "firelensConfiguration": Structure({"type*": Words(("fluentd", "fluentbit")), "options": TABLE}),
        "image*": TEXT,
        "name": TEXT,
        "startTimeout": WHOLE,
        "stopTimeout": WHOLE,
        **_ANY_CONTAINER,
    }
)
ECS_PROPERTIES = Structure(
    {
        "taskProperties*": Items(
            Structure(
                {
                    "containers*": Items(_TASK_CONTAINER),
                    "ephemeralStorage": _EPHEMERAL_STORAGE,
                    "executionRoleArn": TEXT,
                    "platformVersion": TEXT,
                    "ipcMode": TEXT,
                    "taskRoleArn": TEXT,
                    "pidMode": TEXT,
                    "networkConfiguration": _NETWORK,
                    "runtimePlatform": _PLATFORM,
                    "volumes": _VOLUMES,
                    "enableExecuteCommand": FLAG,
                    "networkMode": TEXT,
                }
            )
        )
    }
)
_NODE_PROPERTIES = Structure(
    {
        "numNodes*": WHOLE,
        "mainNode*": WHOLE,
        "nodeRangeProperties*": Items(
            Structure(
                {
                    "targetNodes*": TEXT,
                    "container": CONTAINER_PROPERTIES,
                    "instanceTypes": TEXTS,
                    "ecsProperties": ECS_PROPERTIES,
                    "eksProperties": EKS_PROPERTIES,
                    "consumableResourceProperties": _NEEDS,
                }
            )
        ),
    }
)
RETRY_STRATEGY = Structure(
    {
        "attempts": WHOLE,
        "evaluateOnExit": Items(
            Structure(
                {
                    "onStatusReason": TEXT,
                    "onReason": TEXT,
                    "onExitCode": TEXT,
                    "action*": Words(("RETRY", "EXIT"), any_case=True),
                }
            )
        ),
    }
)
_TIMEOUT = Structure({"attemptDurationSeconds": WHOLE})

REGISTER_JOB_DEFINITION = Structure(
    {
        "jobDefinitionName*": TEXT,
        "type*": Words(("container", "multinode")),
        "parameters": TABLE,
        "schedulingPriority": WHOLE,
        "containerProperties": CONTAINER_PROPERTIES,
        "nodeProperties": _NODE_PROPERTIES,
        "retryStrategy": RETRY_STRATEGY,
        "propagateTags": FLAG,
        "timeout": _TIMEOUT,
        "tags": TAGS,
        "platformCapabilities": Items(Words(("EC2", "FARGATE", "MANAGED_INSTANCES"))),
        "eksProperties": EKS_PROPERTIES,
        "ecsProperties": ECS_PROPERTIES,
        "consumableResourceProperties": _NEEDS,
    }
)
DEREGISTER_JOB_DEFINITION = Structure({"jobDefinition*": TEXT})
DESCRIBE_JOB_DEFINITIONS = Structure(
    {"jobDefinitions": TEXTS, "jobDefinitionName": TEXT, "status": Words(("ACTIVE", "INACTIVE")), **_PAGE}
)

# Jobs -----------------------------------------------------------------------------

_CONTAINER_OVERRIDES = Structure(
    {
        "vcpus": WHOLE,
        "memory": WHOLE,
        "command": TEXTS,
        "instanceType": TEXT,
        "environment": _ENVIRONMENT,
        "resourceRequirements": _RESOURCE_REQUIREMENTS,
    }
)
_TASK_CONTAINER_OVERRIDES = Structure(
    {"command": TEXTS, "environment": _ENVIRONMENT, "name": TEXT, "resourceRequirements": _RESOURCE_REQUIREMENTS}
)
_ECS_OVERRIDE = Structure({"taskProperties": Items(Structure({"containers": Items(_TASK_CONTAINER_OVERRIDES)}))})
SUBMIT_JOB = Structure(
    {
        "jobName*": TEXT,
        "jobQueue*": TEXT,
        "shareIdentifier": TEXT,
        "schedulingPriorityOverride": WHOLE,
        "arrayProperties": Structure({"size": WHOLE}),
        "dependsOn": Items(Structure({"jobId": TEXT, "type": Words(("N_TO_N", "SEQUENTIAL"))})),
        "jobDefinition*": TEXT,
        "parameters": TABLE,
        "containerOverrides": _CONTAINER_OVERRIDES,
        "nodeOverrides": Structure(
            {
                "numNodes": WHOLE,
                "nodePropertyOverrides": Items(
                    Structure(
                        {
                            "targetNodes*": TEXT,
                            "containerOverrides": _CONTAINER_OVERRIDES,
                            "ecsPropertiesOverride": _ECS_OVERRIDE,
                            "instanceTypes": TEXTS,
                            "eksPropertiesOverride": EKS_PROPERTIES_OVERRIDE,
                            "consumableResourcePropertiesOverride": _NEEDS,
                        }
                    )
                ),
            }
        ),
        "retryStrategy": RETRY_STRATEGY,
        "propagateTags": FLAG,
        "timeout": _TIMEOUT,
        "tags": TAGS,
        "eksPropertiesOverride": EKS_PROPERTIES_OVERRIDE,
        "ecsPropertiesOverride": _ECS_OVERRIDE,
        "consumableResourcePropertiesOverride": _NEEDS,
    }
)
DESCRIBE_JOBS = Structure({"jobs*": TEXTS})
LIST_JOBS = Structure(
    {
        "jobQueue": TEXT,
        "arrayJobId": TEXT,
        "multiNodeJobId": TEXT,
        "jobStatus": JOB_STATUS,
        "filters": _FILTERS,
        **_PAGE,
    }
)
STOP_JOB = Structure({"jobId*": TEXT, "reason*": TEXT})
STOP_JOBS = Structure({"jobs*": TEXTS, "reason*": TEXT})

# Tags -----------------------------------------------------------------------------

LIST_TAGS = Structure({"resourceArn*": TEXT})
TAG_RESOURCE = Structure({"resourceArn*": TEXT, "tags*": replace(TAGS, count_min=1)})
UNTAG_RESOURCE = Structure({"resourceArn*": TEXT, "tagKeys*": Items(Text(1, 128), 1, 50)})
