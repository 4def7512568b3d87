"""Certificates of a cluster of tests: one authority, and who shows what it has signed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = dt.timedelta(days=1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Files that prove who one is."""

    certificate: Path
    key: Path


class Authority:
    """
    An authority that a cluster trusts, with its files in a folder.

    To Kubernetes the common name of a certificate is a user, its organization a group.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("batchyard tests", None)
        usage = x509.BasicConstraints(ca=True, path_length=0)
        signed = self._builder(self._name, self._key).add_extension(usage, critical=True)
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(_pem(signed.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, *, group: str | None = None, hosts: Sequence[str] = ()) -> Identity:
        """
        Sign for who is called *name*.

        Args:
            name: The user's name, as ``system:node:n1``.
            group: The user's group, as ``system:nodes``.
            hosts: Names and addresses at which it serves.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        signed = self._builder(_name(name, group), key).add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if hosts:
            signed = signed.add_extension(x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False)
        certificate = self._folder / f"{name.replace(':', '-')}.crt"
        certificate.write_bytes(_pem(signed.sign(self._key, hashes.SHA256())))
        return Identity(certificate=certificate, key=write_key(certificate.with_suffix(".key"), key))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - VALID)
            .not_valid_after(now + VALID)
        )


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | None = None) -> Path:
    """Write a private key, a new one unless it is given, for its owner alone; return where it lies."""
    path.touch(mode=0o600)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL)
    path.write_bytes(
        (key or ec.generate_private_key(ec.SECP256R1())).private_bytes(*form, serialization.NoEncryption())
    )
    return path


def _name(name: str, group: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    return x509.Name(parts + ([x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []))


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
