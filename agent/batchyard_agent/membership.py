"""
Membership: the host's key, and the certificate by which it is a host of its yard.

It is kept in the state folder in one file, for the agent's user alone. The key is made here and
leaves the host never. Law: what is here is whole: a key that is to be certified, or all of it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batchyard.ids import HostId
from batchyard.state_folder import read_private, write_private

FILE_NAME = "identity.json"
RENEW_AFTER = 2 / 3
"""Of a certificate's time; what is left is for a controller that is away."""


class BrokenMembershipError(Exception):
    """The file is none of ours, or open to others; the text says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """
    What makes an agent the agent of a host.

    Attributes:
        key: As PEM.
        host_id: What the controller calls the host; empty of one that has yet to join.
        yard: Of which it is.
        certificate: The host's, with those above it, as PEM.
        trusted: Certificates that a controller's is to be from, as PEM.
        agents_port: Where agents connect.
    """

    key: str = field(repr=False)
    host_id: HostId = HostId("")  # noqa: RUF009  # a text
    yard: str = ""
    certificate: str = field(default="", repr=False)
    trusted: str = field(default="", repr=False)
    agents_port: int = 0

    @property
    def has_joined(self) -> bool:
        """Whether there is a certificate, be it expired."""
        return bool(self.certificate)

    @property
    def renewal_at_s(self) -> float:
        """When the certificate is to be renewed, by the wall clock."""
        found = self._certificate()
        begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
        return begins + (ends - begins) * RENEW_AFTER

    @property
    def expires_at_s(self) -> float:
        """When nobody takes the certificate any more, by the wall clock."""
        return self._certificate().not_valid_after_utc.timestamp()

    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.encode())

    def signing_request(self) -> str:
        """Return what asks for a certificate of the key; it names nobody."""
        key = serialization.load_pem_private_key(self.key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "made here"
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        return csr.public_bytes(serialization.Encoding.PEM).decode()

    def renewed(self, certificate: str, trusted: str) -> Membership:
        """Return it with what is new."""
        return replace(self, certificate=certificate, trusted=trusted)


def new_membership() -> Membership:
    """Make a key."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Membership(key=pem.decode())


def read_membership(folder: Path) -> Membership | None:
    """
    Return what is kept in a state folder; None if nothing is.

    Raises:
        BrokenMembershipError: what is there cannot be read.
    """
    path = folder / FILE_NAME
    try:
        return Membership(**json.loads(read_private(path)))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as err:
        raise BrokenMembershipError(f"{path} cannot be read: {err}") from err


def write_membership(folder: Path, membership: Membership) -> None:
    """
    Keep it.

    Raises:
        OSError: it cannot be written.
    """
    write_private(folder / FILE_NAME, json.dumps(asdict(membership), indent=2) + "\n")
