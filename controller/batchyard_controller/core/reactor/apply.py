"""
Reactor: what follows from each event.

`apply` changes the world and returns the commands that the shell carries out
once the change is stored. No clock, no wire, no loop: `now` is an argument. Every
handler is idempotent where the outside may repeat itself.
"""

from __future__ import annotations

from typing import assert_never

from batchyard_controller.core.events import (
    AttemptsReported,
    BrakeReleased,
    ConsumableChanged,
    ConsumableDeleted,
    DefinitionChanged,
    EnvironmentChanged,
    EnvironmentDeleted,
    Event,
    FrontAsked,
    HostApproved,
    HostEnrolled,
    HostHeard,
    HostJoined,
    HostLeft,
    HostMarked,
    HostReclaimed,
    HostRemoved,
    JobCancelled,
    JobPriorityChanged,
    JobsArchived,
    JobSubmitted,
    JobTagged,
    JobTerminated,
    JoinTokenCreated,
    JoinTokenRevoked,
    Planned,
    PolicyChanged,
    PolicyDeleted,
    ProviderAnswered,
    ProviderListed,
    QueueChanged,
    QueueDeleted,
    QuotaShareChanged,
    QuotaShareDeleted,
    RoleChanged,
    SealedChanged,
    StrayStopped,
    Ticked,
    TokenChanged,
)
from batchyard_controller.core.jobs.retention import Calendar, forgettable
from batchyard_controller.core.model.past import day_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import leaving
from batchyard_controller.core.world.world import World

from . import adoption
from .attempts import on_planned
from .enrolment import forget_old_enrolments, on_enrolment_changed
from .fronts import look_at_fronts, on_front_asked
from .hosts import (
    forget_old_hosts,
    forgive_deafness,
    give_up_silent,
    leave_silent,
    on_host_asked,
    on_host_heard,
    on_host_joined,
    on_host_left,
)
from .jobs import on_job_asked, on_job_changed, on_job_submitted, stop_failing
from .progress import Out
from .reclaims import end_reclaimed
from .reports import on_attempts_reported
from .scaling import on_provider_heard, scale
from .settings import (
    forget_old_access_keys,
    on_access_changed,
    on_queue_deleted,
    on_quota_share_deleted,
    on_sealed_changed,
    on_setting_changed,
)
from .starts import end_rests
from .time_limits import cancel_overdue


def apply(world: World, event: Event, now: Instant) -> Out:  # noqa: C901, PLR0912, PLR0915  # a branch a kind of event
    """Take one event in; return what must be carried out after the commit."""
    out: Out = []
    world.calendar = world.calendar or _calendar(world, now)
    match event:
        case JobSubmitted():
            on_job_submitted(world, event, now, out)
        case JobTagged() | JobPriorityChanged():
            on_job_changed(world, event)
        case JobsArchived():
            leaving.forget(world, event.jobs, now)
        case JobCancelled() | JobTerminated():
            on_job_asked(world, event, now, out)
        case HostJoined():
            on_host_joined(world, event, now, out)
        case HostLeft():
            on_host_left(world, event, now, out)
        case HostHeard():
            on_host_heard(world, event, now, out)
        case HostMarked() | HostReclaimed() | HostApproved() | HostRemoved() | BrakeReleased() | StrayStopped():
            on_host_asked(world, event, now, out)
        case AttemptsReported():
            on_attempts_reported(world, event.host_id, event.reports, now, out, is_all=event.is_all)
        case (
            EnvironmentChanged()
            | EnvironmentDeleted()
            | QueueChanged()
            | PolicyChanged()
            | PolicyDeleted()
            | QuotaShareChanged()
            | ConsumableChanged()
            | ConsumableDeleted()
            | DefinitionChanged()
        ):
            on_setting_changed(world, event, now)
        case SealedChanged():
            on_sealed_changed(world, event)
        case RoleChanged() | TokenChanged():
            on_access_changed(world, event, now)
        case JoinTokenCreated() | JoinTokenRevoked() | HostEnrolled():
            on_enrolment_changed(world, event)
        case QueueDeleted():
            on_queue_deleted(world, event.name, now, out)
        case QuotaShareDeleted():
            on_quota_share_deleted(world, event.share, now, out)
        case Planned():
            on_planned(world, event, now, out)
        case ProviderAnswered() | ProviderListed():
            on_provider_heard(world, event, now, out)
        case FrontAsked():
            on_front_asked(world, event, now)
        case Ticked():
            world.room = event.room
            forgive_deafness(world, event.late_ms)
            on_ticked(world, now, out)
        case _:
            assert_never(event)
    stop_failing(world, now, out)
    return out


def _calendar(world: World, now: Instant) -> Calendar:
    """
    Begin to count days where the last leader left off, as hosts tell: what the clock says beyond it may be wrong.

    What jobs are dated by may be too, and counts only where no host was ever heard.
    """
    hosts = [*(host.record for host in world.hosts.values()), *world.gone_hosts.values()]
    known = [record.heard_at_ms for record in hosts if record.heard_at_ms]
    known = known or [max(job.created_at_ms, job.ended_at_ms) for job in world.jobs.values()]
    return Calendar(min(now.wall_ms, max(known, default=now.wall_ms)), now.boot_ms)


def on_ticked(world: World, now: Instant, out: Out) -> None:
    """Leave silent hosts, and give up what runs where the fence has surely passed; mind time limits and retention."""
    world.note_pool_time(now)
    leave_silent(world, now, out)
    end_rests(world, now)
    end_reclaimed(world, now, out)
    give_up_silent(world, now, out)
    adoption.look(world, now, out)
    scale(world, now)
    cancel_overdue(world, now, out)
    look_at_fronts(world, now)
    assert world.calendar is not None, "apply begins it"
    date_ms = world.calendar.read(now.wall_ms, now.boot_ms)
    world.newest_ms = max(world.newest_ms, date_ms)
    forget_old_hosts(world, date_ms, now, out)
    forget_old_enrolments(world, date_ms)
    forget_old_access_keys(world, date_ms)
    if not world.retention.is_archived:
        leaving.forget(world, forgettable(world.ended, world.retention, world.calendar), now)
    leaving.forget_old_sums(world, day_of(date_ms - world.retention.usage_age_ms))
