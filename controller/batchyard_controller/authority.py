"""
Authority: the yard's own CA, in a file, and the certificates that it issues.

It knows keys and names, and nobody's rights. Dice come in here. Laws: a CA's key never leaves
its file; of who asks for a certificate nothing is taken over but the public key.

The file holds, as PEM, a key, its certificate, and while that replaces another one, the former's
certificate, which is still trusted, and the new one as signed by the former, for who trusts that alone.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.ids import HostId
from batchyard.state_folder import make_private_folder, read_private, write_private
from batchyard.yard_names import controller_name, host_uri, yard_of, yard_uri

FILE_NAME = "ca.pem"
CA_LIFE = timedelta(days=3650)
CONTROLLER_LIFE = timedelta(days=7)
HOST_LIFE = timedelta(hours=24)
EARLIER = timedelta(minutes=10)
"""Certificates begin so long ago, for clocks that are behind."""
CSR_BYTES_MAX = 16 << 10

Certificates = list[x509.Certificate]
Age = tuple[tuple[int, int], datetime]
"""Which file a certificate was issued from, and when."""


class NoAuthorityError(OSError):
    """There is no CA, or what should be one is none; the text says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate with those above it, and its key, both as PEM."""

    key: bytes
    chain: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a file holds: *trusted* begins with the key's own, *cross* is that as signed by the former CA."""

    key: ec.EllipticCurvePrivateKey
    trusted: Certificates
    cross: Certificates
    stamp: tuple[int, int]


class Authority:
    """
    The CA in a file, which may be replaced under it.

    Args:
        path: The file.
        read_wall_s: The clock.
        host_life: How long hosts' certificates are good.

    Raises:
        NoAuthorityError: there is none.
    """

    def __init__(self, path: Path, read_wall_s: Callable[[], float], host_life: timedelta = HOST_LIFE) -> None:
        self._path = path
        self._read_wall_s = read_wall_s
        self._host_life = host_life
        self._lock = threading.Lock()
        self._kept = _read(path)
        self.yard = _yard_of(self._kept.trusted[0])

    @property
    def bundle(self) -> str:
        """All that is trusted, as PEM."""
        return _pem(self._now().trusted).decode()

    @property
    def fingerprint(self) -> str:
        """What join tokens say of the CA that issues."""
        return fingerprint(self._now().trusted[0])

    def age(self) -> Age:
        """Return what tells later whether a controller's certificate of now `is_stale`."""
        return self._now().stamp, self._date()

    def is_stale(self, age: Age) -> bool:
        """Say whether a controller's certificate of then has half its time behind it, or was of another CA."""
        stamp, date = age
        return self._now().stamp != stamp or self._date() - date >= CONTROLLER_LIFE / 2

    def issue_controller(self) -> Leaf:
        """Issue a certificate for a controller, with a new key."""
        names = [
            x509.DNSName(controller_name(self.yard)),
            x509.UniformResourceIdentifier(f"{yard_uri(self.yard)}/controller"),
        ]
        return self._leaf("controller", names, CONTROLLER_LIFE)

    def issue_server(self, names: Sequence[str], life: timedelta) -> Leaf:
        """Issue a certificate, with a new key, for who serves browsers and AWS's tools at DNS names and addresses."""
        return self._leaf(names[0], [_general_name(name) for name in names], life)

    def issue_host(self, host_id: HostId, key: ec.EllipticCurvePublicKey) -> str:
        """Issue a host's certificate for its own key; as PEM, with those above it."""
        kept = self._now()
        names = [x509.UniformResourceIdentifier(host_uri(self.yard, host_id))]
        issued = _issue(
            kept, self._date(), f"host {host_id}", key, names, ExtendedKeyUsageOID.CLIENT_AUTH, self._host_life
        )
        return _pem([issued, *kept.cross]).decode()

    def _leaf(self, subject: str, names: Sequence[x509.GeneralName], life: timedelta) -> Leaf:
        kept, key = self._now(), new_key()
        issued = _issue(kept, self._date(), subject, key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH, life)
        return Leaf(key=key_pem(key), chain=_pem([issued, *kept.cross]))

    def _date(self) -> datetime:
        return datetime.fromtimestamp(self._read_wall_s(), UTC)

    def _now(self) -> _Kept:
        """Return what the file holds now. Its listeners ask from threads of their own."""
        with self._lock:
            with suppress(OSError):  # one that has gone, or was spoilt, is gone on with
                if _stamp(self._path) != self._kept.stamp:
                    self._kept = _read(self._path)
            return self._kept


def make_authority(path: Path, yard: str, now: datetime) -> None:
    """
    Make a CA for a new yard.

    Raises:
        FileExistsError: there is one.
        OSError: the file cannot be written.
    """
    make_private_folder(path.parent)
    if path.exists():
        raise FileExistsError(f"there is a CA already: {path}")
    key = new_key()
    _write(path, key, [_make_ca(yard, key, now)])


def replace_ca(path: Path, now: datetime) -> None:
    """
    Let a new CA issue from now on; the former one stays trusted until `drop_former_ca`.

    Raises:
        NoAuthorityError: there is none.
        FileExistsError: one is being replaced already.
    """
    kept = _read(path)
    if len(kept.trusted) > 1:
        raise FileExistsError(f"the CA in {path} is being replaced already; end that first")
    former, key = kept.trusted[0], new_key()
    new = _make_ca(_yard_of(former), key, now)
    _write(path, key, [new, former, _cross_sign(new, former, kept.key, now)])


def drop_former_ca(path: Path) -> None:
    """
    Trust the CA that issues, and no former one.

    Raises:
        NoAuthorityError: there is none.
        FileNotFoundError: none is being replaced.
    """
    kept = _read(path)
    if len(kept.trusted) == 1:
        raise FileNotFoundError(f"the CA in {path} is not being replaced")
    _write(path, kept.key, kept.trusted[:1])


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, as tokens hold it."""
    return base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).decode().rstrip("=")


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_hash(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key, in hexadecimal digits."""
    written = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(written).hexdigest()


def read_csr(field: str, text: str) -> ec.EllipticCurvePublicKey:
    """
    Return the key for which a certificate is asked, once it was proved that it is the asker's.

    Who is named there counts for nothing, so nobody may be named.

    Raises:
        InvalidArgumentError: it is no such request, of another kind of key, or asks for a name.
    """
    if len(text) > CSR_BYTES_MAX:
        raise _bad_csr(field, f"{len(text)} characters; at most {CSR_BYTES_MAX} are allowed", Reason.TOO_LONG)
    try:
        csr = x509.load_pem_x509_csr(text.encode())
        key, is_signed = csr.public_key(), csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _bad_csr(field, "is no certificate signing request as PEM", Reason.MALFORMED) from None
    if not is_signed:
        raise _bad_csr(field, "is not signed with its key", Reason.MALFORMED)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_csr(field, "its key is not of the curve P-256", Reason.NOT_SUPPORTED)
    if list(csr.subject) or len(csr.extensions):
        text = "it asks for a name; the controller says what a host is called"
        raise _bad_csr(field, text, Reason.NOT_ALLOWED)
    return key


def _bad_csr(field: str, message: str, reason: Reason) -> InvalidArgumentError:
    return InvalidArgumentError.from_violations([Violation(field, message, reason)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _make_ca(yard: str, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # A name of its own, as who looks for an issuer goes by it.
    mark = key_hash(key.public_key())[:8]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Batchyard {yard} {mark}")])
    builder = _builder(name, name, key.public_key(), now, CA_LIFE).add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(yard_uri(yard))]), critical=False
    )
    return _as_ca(builder, key.public_key(), path_length=1).sign(key, hashes.SHA256())


def _cross_sign(
    new: x509.Certificate, former: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.Certificate:
    public = new.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey), "made here"
    builder = _builder(new.subject, former.subject, public, now, former.not_valid_after_utc - now)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    return _as_ca(builder, public, path_length=0).sign(key, hashes.SHA256())


def _as_ca(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePublicKey, path_length: int
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _issue(
    kept: _Kept,
    now: datetime,
    subject: str,
    key: ec.EllipticCurvePublicKey,
    names: Sequence[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    life: timedelta,
) -> x509.Certificate:
    issuer = kept.trusted[0]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    return (
        _builder(name, issuer.subject, key, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(kept.key.public_key()), critical=False)
        .sign(kept.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def _yard_of(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(
        (yard for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if (yard := yard_of(uri))), ""
    )


_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n", re.DOTALL)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError as err:
        raise NoAuthorityError(f"there is no CA in {path}; `batchyard controller init` makes one") from err
    return found.st_ino, found.st_mtime_ns


def _write(path: Path, key: ec.EllipticCurvePrivateKey, certificates: Certificates) -> None:
    owner = path.stat().st_uid if path.exists() else os.geteuid()
    write_private(path, (key_pem(key) + _pem(certificates)).decode())
    if owner != os.geteuid():
        os.chown(path, owner, -1)  # root replaces what a controller of another user reads


def _read(path: Path) -> _Kept:
    stamp = _stamp(path)
    parts = [(match[1], match[0].encode()) for match in _PEM.finditer(read_private(path))]
    try:
        key = serialization.load_pem_private_key(b"".join(text for kind, text in parts if kind == "PRIVATE KEY"), None)
        found = [x509.load_pem_x509_certificate(text) for kind, text in parts if kind == "CERTIFICATE"]
    except (ValueError, TypeError) as err:
        raise NoAuthorityError(f"the CA in {path} cannot be read: {err}") from err
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not found or key.public_key() != found[0].public_key():
        raise NoAuthorityError(f"the CA in {path}: the key is not that of the first certificate")
    if not _yard_of(found[0]):
        raise NoAuthorityError(f"the CA in {path}: the first certificate names no yard")
    trusted = [each for each in found if each.issuer == each.subject]
    return _Kept(key=key, trusted=trusted, cross=[each for each in found if each.issuer != each.subject], stamp=stamp)
