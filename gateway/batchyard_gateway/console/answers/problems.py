"""Problems: the page that tells an error; what may be wrong with a form is told by its own page."""

from __future__ import annotations

import structlog

from batchyard import errors as sdk_errors
from batchyard.errors import Reason
from batchyard_gateway.console.visit import Page, missing, sentence
from batchyard_gateway.errors import ApiError

RETRY_S = 5
"""When a page that could not be read is worth another try."""

BROKEN = Page(
    template="problem.html", title="Something broke", view={"text": "The gateway's log tells what."}, status=500
)

_FORGOTTEN = " Jobs that have ended are forgotten after the days that the controller is told to keep them."

log = structlog.get_logger()


def problem(err: ApiError | sdk_errors.BatchyardError) -> Page:
    """Return the page that tells an error."""
    if isinstance(err, ApiError):
        return Page(template="problem.html", title="Refused", view={"text": err.message}, status=err.status)
    if isinstance(err, sdk_errors.NotFoundError):
        return missing(f"{sentence(str(err))}{_FORGOTTEN if err.reason is Reason.JOB_NOT_FOUND else ''}")
    if isinstance(err, sdk_errors.PermissionDeniedError):
        return Page(template="problem.html", title="Refused", view={"text": sentence(str(err))}, status=403)
    if isinstance(err, sdk_errors.RequestError):
        return Page(template="problem.html", title="Refused", view={"text": str(err)}, status=400)
    log.warning("the controller failed", error=str(err))
    return Page(
        template="away.html", title="The controller is away", view={"text": str(err), "retry_s": RETRY_S},
        status=503, headers={"Retry-After": str(RETRY_S)},
    )  # fmt: skip
