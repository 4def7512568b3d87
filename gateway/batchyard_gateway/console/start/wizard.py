"""
The wizard: its steps, what each says by what was answered, and what was made so far.

Pure. Answers are those of the session, by step and input; what was made is among them, under
a name that is no step. Law: what was made once is not made again, whatever is pressed, and
what was asked for while the answer got lost is looked for before it is asked for again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchyard_gateway.console.forms import definition_form, environment_form, pod_form, queue_form, submission_form
from batchyard_gateway.console.forms.environment_form import EC2, EKS, FARGATE
from batchyard_gateway.console.forms.faults import faults_of
from batchyard_gateway.console.forms.fields import Choice, Field
from batchyard_gateway.console.forms.tables import Draft, Form, Section, called, kept, read
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

ORCHESTRATION, ENVIRONMENT, QUEUE, DEFINITION, JOB, REVIEW = (
    "orchestration", "environment", "queue", "definition", "job", "review"
)  # fmt: skip
STEPS: Mapping[str, str] = {
    ORCHESTRATION: "Orchestration type",
    ENVIRONMENT: "Compute environment",
    QUEUE: "Job queue",
    DEFINITION: "Job definition",
    JOB: "Job",
    REVIEW: "Review",
}
"""Steps in their order, and what they are called."""

OPERATIONS: Mapping[str, str] = {
    ENVIRONMENT: "CreateComputeEnvironment",
    QUEUE: "CreateJobQueue",
    DEFINITION: "RegisterJobDefinition",
    JOB: "SubmitJob",
}
"""What makes the thing of a step, in the order in which they are made."""

EXISTING = "existing"
SKIPPED = "skipped"
MADE, TRIED, ENDED = "made", "tried", "ended"

_TYPE = "orchestration"
Session = MutableMapping[str, dict[str, list[str]]]
"""What a session keeps for the wizard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """
    What there is.

    Attributes:
        environments: By name, of which orchestration type they are.
        queues: Names.
        policies: Names of scheduling policies, and what is shown for them; an empty name for none.
        definitions: ``name:revision`` of the newest ACTIVE one of each name.
        secrets: Names.
        host_types: How many hosts of each.
        spot_hosts: How many.
        runs_containers: Whether a host does.
        clusters: ARNs and namespaces of those that its hosts are nodes of.
        account_id: Of the gateway.
    """

    environments: Mapping[str, str] = field(default_factory=dict)
    queues: Sequence[str] = ()
    policies: Sequence[tuple[str, str]] = ()
    definitions: Sequence[str] = ()
    secrets: Sequence[str] = ()
    host_types: Mapping[str, int] = field(default_factory=dict)
    spot_hosts: int = 0
    runs_containers: bool = False
    clusters: Sequence[tuple[str, str]] = ()
    account_id: str = ""

    def names(self, step: str) -> Sequence[str]:
        """Return what a step may use instead of making something."""
        return {ENVIRONMENT: tuple(self.environments), QUEUE: self.queues, DEFINITION: self.definitions}.get(step, ())


def opens_by_itself(*, is_empty: bool, answers: Session) -> bool:
    """
    Say whether the overview leads here.

    Args:
        is_empty: The yard has no environment, queue or definition.
        answers: Of the session: who left the wizard once is not led there again.
    """
    return is_empty and SKIPPED not in answers


def after(step: str) -> str:
    """Return the step that follows."""
    names = list(STEPS)
    return names[min(names.index(step) + 1, len(names) - 1)]


def before(step: str) -> str:
    """Return the step before; the first is its own."""
    names = list(STEPS)
    return names[max(names.index(step) - 1, 0)]


# What steps ask --------------------------------------------------------------------


_TYPES = {EC2: "EC2", FARGATE: "Fargate", EKS: "EKS"}


def orchestration(session: Session, yard: Yard) -> str:
    """Return the type that was chosen; own hosts where nobody chose, or there is no cluster for it."""
    (chosen, *_) = session.get(ORCHESTRATION, {}).get(_TYPE) or [EC2]
    return chosen if chosen in _TYPES and (chosen != EKS or yard.clusters) else EC2


def form(step: str, session: Session, yard: Yard) -> Form:
    """Return the form of a step."""
    kind = kind_of(session, yard)
    match step:
        case "orchestration":
            options = tuple((name, label) for name, label in _TYPES.items() if name != EKS or yard.clusters)
            return (Section(title="", fields=(Choice(name=_TYPE, label="Orchestration type", options=options),)),)
        case "environment":
            asked = orchestration(session, yard)
            made = environment_form.environment(asked, yard.host_types, yard.spot_hosts, yard.clusters)
        case "queue":
            own = name_of(ENVIRONMENT, session, yard)
            # AWS mixes EKS with nothing else.
            others = [name for name, of in yard.environments.items() if name != own and (of == EKS) == (kind == EKS)]
            made = queue_form.queue(others, yard.policies, is_first_given=True)
        case "definition":
            made = definition_form.definition(fargate=kind == FARGATE, secrets=yard.secrets)
            if kind == EKS:
                made = pod_form.definition()
        case _:
            return (Section(title="Job", fields=(_job_name(),)),)
    return (*_existing(step, yard), *made)


def _job_name() -> Field:
    return Field(
        name="jobName", label="Name", hint="Letters, digits, - and _; the first a letter or digit.", is_required=True,
        called=("Job name", "name"),
    )  # fmt: skip


def _existing(step: str, yard: Yard) -> Form:
    """Return the choice of what is there, where something is."""
    names = yard.names(step)
    if not names:
        return ()
    options = (("", "Make a new one"), *((name, name) for name in names))
    choice = Choice(name=EXISTING, label="Use what is there", options=options, hint="Or make a new one below.")
    return (Section(title="", fields=(choice,)),)


def kind_of(session: Session, yard: Yard) -> str:
    """Return of which orchestration type the environment is that jobs go to."""
    used = chosen(ENVIRONMENT, session, yard)
    return yard.environments[used] if used else orchestration(session, yard)


def presets(step: str, session: Session, yard: Yard) -> dict[str, list[str]]:
    """Return what stands in a step that was not answered yet."""
    found: dict[str, str] = {}
    match step:
        case "orchestration":
            return {_TYPE: [EC2]}
        case "environment":
            found = dict(environment_form.PRESETS)
            if orchestration(session, yard) == EKS and yard.clusters:
                arn, namespace = yard.clusters[0]
                found |= {environment_form.CLUSTER: arn, environment_form.NAMESPACE: namespace}
        case "queue":
            found = dict(queue_form.PRESETS)
        case "definition" if kind_of(session, yard) == EKS:
            found = dict(pod_form.PRESETS)
        case "definition":
            fargate = kind_of(session, yard) == FARGATE
            image = "busybox:latest" if yard.runs_containers or fargate else definition_form.PROCESS
            found = {**definition_form.PRESETS, f"{definition_form.CONTAINER}image": image}
            if fargate:
                role = f"arn:aws:iam::{yard.account_id}:role/ecsTaskExecutionRole"
                found[f"{definition_form.CONTAINER}executionRoleArn"] = role
        case "job":
            found = {"jobName": "hello"}
    answers = {name: [text] for name, text in found.items()}
    if step == DEFINITION:
        command = pod_form.COMMAND if kind_of(session, yard) == EKS else definition_form.COMMAND
        answers[command] = ["echo hello"]
    if step in (ENVIRONMENT, QUEUE) and yard.names(step):
        answers[EXISTING] = [yard.names(step)[0]]
    return answers


def answers_of(step: str, session: Session, yard: Yard) -> dict[str, list[str]]:
    """Return what a step shows."""
    known = session.get(step)
    return {name: list(texts) for name, texts in known.items()} if known is not None else presets(step, session, yard)


def keep(step: str, session: Session, given: Iterable[tuple[str, str]]) -> None:
    """
    Keep what was posted of a step, whatever there is in the yard.

    Raises:
        WrongError: it is too long.
    """
    existing = Section(title="", fields=(Field(name=EXISTING, label=""),))
    anything = Yard(policies=(("", ""),), clusters=(("", ""),))
    pod = pod_form.definition() if step == DEFINITION else ()
    session[step] = kept((*form(step, session, anything), *pod, existing), given)


# What steps say --------------------------------------------------------------------


def chosen(step: str, session: Session, yard: Yard) -> str:
    """Return the name of what is there and shall be used; empty where a new one is made."""
    name = (
        (answers_of(step, session, yard).get(EXISTING) or [""])[0] if step in (ENVIRONMENT, QUEUE, DEFINITION) else ""
    )
    return name if name in yard.names(step) else ""


def is_skipped(session: Session) -> bool:
    """Say whether no job is wanted."""
    return SKIPPED in session.get(JOB, {})


def name_of(step: str, session: Session, yard: Yard) -> str:
    """Return what the thing of a step is called, there or not yet; of a definition that was made, with its revision."""
    if name := chosen(step, session, yard):
        return name
    draft = drafted(step, session, yard)
    if step == DEFINITION and (made := made_name(step, session, draft.members)):
        return made
    key = {ENVIRONMENT: "computeEnvironmentName", QUEUE: "jobQueueName", DEFINITION: "jobDefinitionName"}[step]
    return str(draft.members.get(key, ""))


def drafted(step: str, session: Session, yard: Yard) -> Draft:
    """Return the input of a step's operation, as answered so far."""
    asked, answers = form(step, session, yard), answers_of(step, session, yard)
    made = [section for section in asked if section.fields[0].name != EXISTING]
    match step:
        case "environment":
            return environment_form.environment_draft(orchestration(session, yard), made, answers)
        case "queue":
            return queue_form.queue_draft(made, answers, name_of(ENVIRONMENT, session, yard))
        case "definition":
            kind = kind_of(session, yard)
            if kind == EKS:
                return pod_form.definition_draft(made, answers)
            return definition_form.definition_draft(made, answers, fargate=kind == FARGATE)
        case "job":
            draft = read(made, answers)
            queue, definition = name_of(QUEUE, session, yard), name_of(DEFINITION, session, yard)
            return Draft(members={**draft.members, "jobQueue": queue, "jobDefinition": definition}, faults=draft.faults)
        case _:
            return read(made, answers)


_CHECKS = {
    ENVIRONMENT: environment_form.check_environment,
    QUEUE: queue_form.check_queue,
    DEFINITION: definition_form.check_definition,
    JOB: submission_form.check,
}
AMENDS: Mapping[str, Callable[[Members], Callable[[Any], None]]] = {
    ENVIRONMENT: environment_form.amend,
    QUEUE: queue_form.amend,
}
"""What AWS has no members for, of the steps that have such."""

_NAMES = {ENVIRONMENT: "computeEnvironmentName", QUEUE: "jobQueueName"}


def faults(step: str, session: Session, yard: Yard) -> dict[str, str]:
    """Return what is wrong with a step, by its inputs; AWS's own rules, and names against those there are."""
    if step == ORCHESTRATION:
        return dict(drafted(step, session, yard).faults)
    if step not in OPERATIONS or chosen(step, session, yard) or (step == JOB and is_skipped(session)):
        return {}
    draft = drafted(step, session, yard)
    found = dict(draft.faults)
    words = called(form(step, session, yard))
    try:
        _CHECKS[step](draft.members)
    except ApiError as err:
        for name, text in faults_of(err, words).items():
            found.setdefault(name, text)
    if text := taken(step, session, yard):
        found.setdefault(_NAMES[step], text)
    return found


def taken(step: str, session: Session, yard: Yard) -> str:
    """Return a sentence if what a step would make has the name of something that is there; empty if not."""
    if step not in _NAMES or chosen(step, session, yard):
        return ""
    members = drafted(step, session, yard).members
    name = members.get(_NAMES[step], "")
    is_own = made_name(step, session, members) or found_after_all(step, session, members, [name])
    if name not in yard.names(step) or is_own:
        return ""
    return f"There is a {STEPS[step].lower()} {name} already: choose it above, or take another name"


# What was made ---------------------------------------------------------------------


def unanswered(session: Session) -> str:
    """Return the first step that nobody has answered; empty if all are."""
    return next((step for step in OPERATIONS if step not in session), "")


def end(session: Session, location: str) -> None:
    """Forget all answers, but for where it ended: the last button may come once more."""
    session.clear()
    session[ENDED] = {"at": [location]}


def ended_at(session: Session) -> str:
    """Return where the wizard ended last; empty if it did not."""
    return session.get(ENDED, {}).get("at", [""])[0]


def digest(members: Members) -> str:
    """Return a name for an input."""
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()


def made_name(step: str, session: Session, members: Members) -> str:
    """Return the name of what was made of just these members; empty if nothing was."""
    known, name = session.get(MADE, {}).get(step, ["", ""])
    return name if known == digest(members) else ""


def note_try(step: str, session: Session, members: Members, before: Sequence[str]) -> None:
    """Note that something is about to be asked for, and what of its name there was before."""
    session.setdefault(TRIED, {})[step] = [digest(members), *before]


def note_made(step: str, session: Session, members: Members, name: str) -> None:
    """Note that it is there."""
    session.get(TRIED, {}).pop(step, None)
    session.setdefault(MADE, {})[step] = [digest(members), name]


def note_refused(step: str, session: Session) -> None:
    """Note that it was not made."""
    session.get(TRIED, {}).pop(step, None)


def found_after_all(step: str, session: Session, members: Members, now: Sequence[str]) -> str:
    """
    Return the name of what an earlier try made though its answer was lost.

    Args:
        step: Which.
        session: What was tried.
        members: The input.
        now: What of its name there is; the newest first.
    """
    known, *earlier = session.get(TRIED, {}).get(step, [""])
    new = [name for name in now if name not in earlier]
    return new[0] if known == digest(members) and new else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """
    A step as the review shows it.

    Attributes:
        step: Which.
        title: What it is called.
        name: Of its thing.
        state: ``new``, ``there``, ``made``, ``wrong``, ``refused`` or ``skipped``.
        members: Of its operation; none where nothing is made.
        faults: What is wrong with it.
    """

    step: str
    title: str
    name: str
    state: str
    members: Members
    faults: Mapping[str, str]


def cards(session: Session, yard: Yard, refused: Mapping[str, Mapping[str, str]]) -> list[Card]:
    """Return the review's four cards; *refused* has what the yard said to a step just now."""
    found = []
    for step in OPERATIONS:
        draft = drafted(step, session, yard)
        wrong = refused.get(step) or faults(step, session, yard)
        members: dict[str, Any] = draft.members
        name = str(members.get("jobName", "")) if step == JOB else name_of(step, session, yard)
        if chosen(step, session, yard):
            state, members = "there", {}
        elif step == JOB and is_skipped(session):
            state, members = "skipped", {}
        elif made_name(step, session, members):
            state = "made"
        else:
            state = "refused" if step in refused else "wrong" if wrong else "new"
        found.append(Card(step=step, title=STEPS[step], name=name, state=state, members=members, faults=wrong))
    return found
