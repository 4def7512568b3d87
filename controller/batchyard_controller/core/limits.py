"""
Numbers that bound what users may ask for, each with its source.

"AWS" is the AWS Batch user guide, page "Service quotas", or the API reference;
"ours" is chosen here.
"""

from __future__ import annotations

KIB = 1024

OVERRIDES_BYTES_MAX = 8192
"""AWS: container overrides; texts of the command and of the environment. Parameters make a command one, too."""
DEFINITION_BYTES_MAX = 24 * KIB
"""AWS; bytes of the message RegisterJobDefinitionRequest without its annotations."""
SUBMIT_BYTES_MAX = 30 * KIB
"""AWS; bytes of the message SubmitJobRequest without its annotations and dependencies, which have limits of their own."""
CONTAINERS_MAX = 10
"""AWS: containers of a task."""
CONTAINER_NAME_LENGTH_MAX = 255
POD_IMAGES_MAX = 10
"""AWS: distinct images of a range of nodes that are pods."""
DNS_LABEL_LENGTH_MAX = 63
DNS_SUBDOMAIN_LENGTH_MAX = 253
"""Kubernetes: names of namespaces, containers and volumes; of accounts, secrets and claims."""
POD_METADATA_MAX = 50
POD_ANNOTATION_LENGTH_MAX = 255
"""Ours, and AWS: annotations of a pod."""
CAPABILITIES_MAX = 64
CAPABILITY_LENGTH_MAX = 128
SECCOMP_PROFILE_LENGTH_MAX = 4095
"""AWS: EksContainerLinuxCapabilities, EksSeccompLocalhostProfile."""
CLUSTER_NAME_LENGTH_MAX = 100
"""Amazon EKS: name of a cluster."""
CONTAINER_TIMEOUT_S_MIN = 2
"""AWS: startTimeout, stopTimeout."""
CONTAINER_TIMEOUT_S_MAX = 7 * 24 * 3600
"""Ours: a bound on what is waited for."""
IMAGE_LENGTH_MAX = 255
"""AWS: ContainerProperties.image."""
ARRAY_SIZE_MIN = 2
ARRAY_SIZE_MAX = 1_000_000
"""AWS allows 10,000; the native limit is ours."""
ARRAY_NUMBERS_LENGTH_MAX = 64 * KIB
ARRAY_ITEMS_BYTES_MAX = 256 * KIB
"""Ours: they are kept once with the array, beside the 30 KiB of all else; each item counts one byte more."""
ARRAY_ITEM_BYTES_MAX = 32 * KIB
"""Ours: as SECRET_BYTES_MAX; of a sweep the longest value of each parameter together."""
SWEEP_AXES_MAX = 16
"""Ours."""
NODES_MAX = 1_000
"""AWS: nodes of a multi-node job, unless it raises that on request."""
NODE_RANGES_MAX = 5
"""AWS: ranges of nodes of a multi-node job."""
DEPENDENCIES_MAX = 1000
"""AWS allows 20; the native limit is ours."""
ATTEMPTS_MAX = 10
"""AWS: RetryStrategy.attempts."""
INFRASTRUCTURE_RETRIES_MAX = 100
SPOT_ATTEMPTS_MAX = 100
PREEMPTIONS_MAX = 50
"""Ours: a unit that was preempted so often is left to run; so its tries stay few enough to be kept."""
GPU_MODELS_MAX = 16
GPU_MODEL_LENGTH_MAX = 128
"""Ours."""
EXIT_RULES_MAX = 5
"""AWS: evaluateOnExit."""
PATTERN_LENGTH_MAX = 512
"""AWS: evaluateOnExit patterns."""
TAGS_MAX = 50
TAG_KEY_LENGTH_MAX = 128
TAG_VALUE_LENGTH_MAX = 256
"""AWS: tags."""
ANNOTATIONS_MAX = 100
ANNOTATIONS_BYTES_MAX = 32 * KIB
ANNOTATION_KEY_LENGTH_MAX = 128
"""Ours: so that a record of a job stays small, whatever is kept with it."""
REASON_LENGTH_MAX = 1024
"""AWS: CancelJob, TerminateJob."""
CONTAINER_REASON_LENGTH_MAX = 255
"""AWS: AttemptContainerDetail.reason."""
REQUEST_ID_LENGTH_MAX = 128
"""Ours."""
JOB_ID_LENGTH_MAX = 64
"""Ours: a UUID, a colon and an index take fewer; without a bound a long index is no number to Python."""
DEFINITION_KEY_LENGTH_MAX = 140
"""Ours: a name, a colon and a revision take fewer; as JOB_ID_LENGTH_MAX."""
CURSOR_LENGTH_MAX = 64
"""Ours: as JOB_ID_LENGTH_MAX."""
LIST_FILTERS_MAX = 50
"""Ours: queues, and tags, that one list asks for."""
DIGEST_CELLS_MAX = 1000
"""Ours: more than a screen shows."""
SEARCH_DEFAULT = 10
SEARCH_MAX = 50
"""Ours: of each kind that a search finds."""
WATCH_MAX = 10_000
"""Ours: jobs that one stream watches by id."""
ROLE_LENGTH_MAX = 2048
"""AWS: length of an ARN."""
INSTANCE_TYPES_MAX = 100
INSTANCE_TYPE_LENGTH_MAX = 128
"""Ours: so that a record of an environment stays small."""
PROVIDER_NAME_LENGTH_MAX = 128
"""Ours."""
BID_PERCENTAGE_MAX = 100
"""AWS: more than the on-demand price is never paid."""
SCALE_DOWN_DELAY_S_MAX = 10080 * 60
"""AWS: minScaleDownDelayMinutes, a week."""
SECRETS_MAX = 10_000
SECRETS_PER_JOB_MAX = 50
"""Ours: Linux gives a process about 2 MiB for its environment and arguments."""
SECRET_NAME_LENGTH_MAX = 512
"""AWS Secrets Manager: Name."""
SECRET_BYTES_MAX = 32 * KIB
"""Ours: Linux takes no more than 128 KiB in one variable."""
VALUE_FROM_LENGTH_MAX = 2048
"""AWS: length of an ARN."""
ACCESS_KEYS_MAX = 1000
ACCESS_KEY_ID_LENGTH_MAX = 128
ACCESS_KEY_DESCRIPTION_LENGTH_MAX = 256
ACCESS_KEY_KEEP_S_MAX = 90 * 24 * 3600
"""Ours, as of tokens: how long a key is good beside the one that took its place."""
ACCESS_KEY_KEEP_S_DEFAULT = 24 * 3600
SECRET_QUEUES_MAX = 50
"""Ours: queues that share one secret."""
USER_LENGTH_MAX = 64
"""Ours."""
BINDINGS_MAX = 10_000
TOKENS_MAX = 10_000
"""Ours: each is looked at when any changes."""
TOKEN_TTL_S_MAX = 90 * 24 * 3600
"""Ours (reliability 2.2): what must be renewed is missed when it is not needed any more."""
TOKEN_TTL_S_DEFAULT = 30 * 24 * 3600
SIGNING_SCOPE_LENGTH_MAX = 64
"""Ours."""
JOIN_TOKENS_MAX = 1000
JOIN_TOKEN_TTL_S = 3600
JOIN_TOKEN_TTL_S_MIN = 60
JOIN_TOKEN_TTL_S_MAX = 30 * 24 * 3600
JOIN_TOKEN_USES_MAX = 10_000
JOIN_TOKEN_NETWORKS_MAX = 20
"""Ours: who finds a token that was forgotten somewhere should find it useless."""
SINKS_MAX = 100
SINK_URL_LENGTH_MAX = 2048
"""Ours."""
HOST_NAME_LENGTH_MAX = 253
"""RFC 1035: of a name in text."""
VOLUME_NAME_LENGTH_MAX = 255
"""AWS: Volume.name."""
PATH_LENGTH_MAX = 4096
"""Linux: PATH_MAX."""
HOST_TEXT_LENGTH_MAX = 255
HOSTS_MAX = 20_000
"""Ours: hosts that are remembered, connected or not."""
CLOCK_AHEAD_MS_MAX = 24 * 3600 * 1000
"""How far a host's clock may be ahead of the controller's; what it tells of later times counts as then."""
HOST_RUNTIMES_MAX = 16
HOST_FEATURES_MAX = 16
HOST_GPUS_MAX = 1000
HOST_PATHS_MAX = 100
"""Ours: so that a record of a host stays small."""
EXIT_CODE_MAX = 255
"""Linux: what a process can end with."""
STDIN_BYTES_MAX = 64 * KIB
"""Ours: it is kept with the job, beside the 30 KiB of all else."""
LOG_SIZE_MIB_MAX = 1024
"""Ours."""
SWAPPINESS_MAX = 100
"""AWS: LinuxParameters.swappiness."""
SHARE_IDENTIFIER_LENGTH_MAX = 255
"""AWS: shareIdentifier."""
SCHEDULING_PRIORITY_MAX = 9999
"""AWS: schedulingPriority."""
SHARE_DECAY_S_MAX = 604_800
COMPUTE_RESERVATION_MAX = 99
WEIGHT_FACTOR_MIN = 0.0001
WEIGHT_FACTOR_MAX = 999.9999
"""AWS: FairsharePolicy, ShareAttributes."""
SHARE_WEIGHTS_MAX = 500
ACTIVE_SHARES_MAX = 500
"""AWS: shares of a queue."""
SCHEDULING_POLICIES_MAX = 1000
"""Ours: as QUEUES_MAX."""
QUOTA_SHARES_PER_QUEUE_MAX = 20
CAPACITY_LIMITS_MAX = 5
"""AWS: CreateQuotaShare."""
BORROW_LIMIT_MAX = 1_000_000
"""Ours: per cent; ten thousand times a share's own."""
CONSUMABLES_MAX = 50_000
CONSUMABLES_PER_JOB_MAX = 5
"""AWS: resource-aware scheduling."""
CONSUMABLE_QUANTITY_MAX = 2**53
"""Ours: beyond it JSON numbers are not exact."""
CONSUMABLE_UPDATE_MS = 8 * 3600 * 1000
"""AWS: how long the clientToken of UpdateConsumableResource is known."""
CONSUMABLE_UPDATES_KEPT = 100
"""Ours: so that a record of a resource stays small."""
ENVIRONMENTS_PER_QUEUE_MAX = 3
"""AWS."""
STATE_TIME_S_MIN = 600
STATE_TIME_S_MAX = 86_400
"""AWS: jobStateTimeLimitActions.maxTimeSeconds."""
QUEUES_MAX = 1000
"""AWS allows 50; ours is higher as a yard has no account to protect."""
COMPUTE_ENVIRONMENTS_MAX = 1000
"""As QUEUES_MAX."""
DESCRIBE_MAX = 1000
"""Names or ids in one describe call; AWS allows 100."""
SUBMIT_MANY_MAX = 1000
"""Jobs in one message of a SubmitJobs stream; ours."""
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
"""Ours."""
TIMEOUT_S_MAX = 10 * 365 * 24 * 3600
"""Ours: ten years, so that sums of times stay far from 64 bits."""
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

CPU_MILLIS_MIN = 1
CPU_MILLIS_MAX = 100_000_000
"""Ours: 100,000 vCPUs, beyond any one host."""
MEMORY_MIB_MIN = 4
"""AWS: ResourceRequirement MEMORY."""
MEMORY_MIB_MAX = 1 << 30
"""Ours: a pebibyte."""
GPU_MILLIS_MAX = 1_000_000
"""Ours: 1000 GPUs in one host."""
DISK_MIB_MAX = 1 << 34
"""Ours: 16 PiB."""
MAX_VCPUS_MAX = INT32_MAX

USAGE_MAX = (1 << 53) - 1
"""What of an attempt's use is kept: the largest number that every reader of JSON knows exactly."""

WALL_MS_MAX = 253_402_300_799_000
"""The last second of the year 9999, the latest that can be written as a date."""
CONTACT_LIMIT_MS = 45_000
"""A host silent for longer counts as unreachable (reliability, R7)."""
FENCE_MS = 15 * 60_000
"""By then an agent without contact has killed what it runs, where nobody says otherwise (reliability, R7)."""
FENCE_S_MIN, FENCE_S_MAX = 30, 24 * 3600
"""Between them the fence may be set; a shorter one would be passed by a network that is only slow (reliability, R7)."""

FENCE_NEVER_S = -1
"""What a job or a queue says that has none."""

BRAKE_PERCENT = 20
"""Where more of the hosts fall silent at once, none of these is given up (reliability, R12)."""
BRAKE_WINDOW_MS = 60_000
"""At once; and how long those that are still silent are waited for when most are back."""
BRAKE_HOSTS_MIN = 3
"""Ours: fewer may fail by themselves, unless they are all there are."""


def fence_margin_ms(fence_ms: int) -> int:
    """Return how long after a fence all has surely ended: grace 30 s, 5 s of slack, clocks one in a thousand apart."""
    return 35_000 + fence_ms // 1000


HEARTBEAT_INTERVAL_MS = 3_000
RECLAIM_DELAY_S_MAX = 24 * 3600
"""Ours: who knows of it longer before can drain the host."""
CLOCK_OFF_MS_MAX = 60_000
"""Ours: a host whose clock is further off gets no new work. Durations are by other clocks, so this may be generous."""
RECLAIM_MARGIN_MS = 45_000
"""Ours: by then a host has killed what it runs though it cannot be reached: grace 30 s, 5 s of slack, and 10 s in which its agent sees that its clock was set."""
CLOCK_OFF_HEARTBEATS = 3
"""Ours: so many heartbeats in a row have to say so; one that waited somewhere says little."""

ENTRY_COMMAND_BYTES_MAX = 64 * KIB
ENTRY_PIECE_BYTES_MAX = 64 * KIB
"""Ours: what a command in an attempt is called with, and what goes to it, or comes from it, at once."""
WINDOW_SIDE_MAX = 10_000
TERMINAL_TYPE_LENGTH_MAX = 64
TERMINAL_GRACE_S_MIN = 5
TERMINAL_GRACE_S_MAX = 24 * 3600
"""Ours: long enough for a network to come back, and no longer than a day with nobody there."""
ENTRIES_MAX = 256
ENTRIES_OF_USER_MAX = 16
ENTRIES_OF_HOST_MAX = 32
"""Ours: commands in attempts that run at once, of a controller in all."""
ENTRY_KEY_MS = 15_000
"""Ours: how long a host may take to come for an entry."""
ENTRY_IDLE_MS = 4 * 3600 * 1000
"""Nothing went in or came out for so long: it is ended. Kubernetes: streamingConnectionIdleTimeout, of kubectl exec."""
