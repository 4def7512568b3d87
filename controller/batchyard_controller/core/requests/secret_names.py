"""
Secret names: what a secret may be called, and which one a job's ``value_from`` means.

Jobs that were written for AWS name secrets by ARN. An ARN counts for the name in it:

    arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME          NAME
    arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-A1b2C3   so spelt, or else NAME
    arn:aws:ssm:REGION:ACCOUNT:parameter/NAME                  NAME, or else /NAME
"""

from __future__ import annotations

import re

from batchyard_controller.core import limits

_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]+", re.ASCII)
_ARN = re.compile(
    r"arn:[^:]*:(?:secretsmanager:[^:]*:[^:]*:secret:(?P<secret>.+)|ssm:[^:]*:[^:]*:parameter/(?P<parameter>.+))"
)
_SUFFIX = re.compile(r"(.+)-[A-Za-z0-9]{6}", re.ASCII)
"""AWS Secrets Manager ends the names in its ARNs with a hyphen and six characters."""


def is_secret_name(name: str) -> bool:
    """Say whether a secret may be called so."""
    return len(name) <= limits.SECRET_NAME_LENGTH_MAX and _NAME.fullmatch(name) is not None


def secret_names(value_from: str) -> tuple[str, ...]:
    """Return the names that *value_from* may mean, first the likelier; none if it means no secret."""
    arn = _ARN.fullmatch(value_from)
    if arn is None:
        names = [value_from]
    elif arn["secret"] is not None:
        # NAME:json-key:version-stage:version-id, all three of them empty, is the whole secret.
        name = arn["secret"].removesuffix(":::")
        suffixed = _SUFFIX.fullmatch(name)
        names = [name, suffixed[1]] if suffixed else [name]
    else:
        names = [arn["parameter"], "/" + arn["parameter"]]
    return tuple(name for name in names if is_secret_name(name))
