"""The yard's own CA: what it issues, what it takes over of who asks, and how one follows another."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from batchyard.credentials import read_credentials
from batchyard.errors import InvalidArgumentError, Reason
from batchyard.ids import HostId
from batchyard_controller.__main__ import main
from batchyard_controller.administrator import read_administrator, split_token
from batchyard_controller.authority import (
    Authority,
    NoAuthorityError,
    drop_former_ca,
    key_pem,
    make_authority,
    new_key,
    read_csr,
    replace_ca,
)

YARD = "019a0000-0000-7000-8000-0123456789ab"
HOST = HostId("019a0000-0000-7000-8000-00000000000a")
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "ca.pem"
    make_authority(path, YARD, NOW)
    return path


def authority(path: Path) -> Authority:
    return Authority(path, NOW.timestamp)


def certificates(pem: str | bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem if isinstance(pem, bytes) else pem.encode())


def issued_by(chain: bytes, bundle: str) -> bool:
    """Say whether a chain leads to one of a bundle."""
    *links, last = certificates(chain)
    for below, above in zip(links, [*links, last][1:], strict=False):
        below.verify_directly_issued_by(above)
    for root in certificates(bundle):
        if root.subject == last.issuer:
            last.verify_directly_issued_by(root)
            return True
    return False


def test_a_ca_is_closed_to_others_and_made_once(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert authority(path).yard == YARD
    with pytest.raises(FileExistsError):
        make_authority(path, YARD, NOW)


def test_what_is_no_ca_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NoAuthorityError, match="controller init"):
        authority(tmp_path / "none")
    whole = path.read_text()
    for broken in (whole[:200], whole.partition("-----BEGIN CERT")[0], key_pem(new_key()).decode() + whole):
        path.write_text(broken)
        with pytest.raises(NoAuthorityError):
            authority(path)
    path.write_text(whole)
    path.chmod(0o640)
    with pytest.raises(PermissionError, match="0600"):
        authority(path)


def test_a_hosts_certificate_says_its_yard_and_id_for_a_day(path: Path) -> None:
    key = new_key()
    (issued,) = certificates(authority(path).issue_host(HOST, key.public_key()))
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [f"spiffe://{YARD}/host/{HOST}"]
    assert issued.public_key() == key.public_key()
    assert issued.not_valid_after_utc == NOW + timedelta(hours=24)
    assert issued.not_valid_before_utc == NOW - timedelta(minutes=10)
    purposes = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH], "it cannot be a controller"
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_controllers_certificate_is_no_hosts(path: Path) -> None:
    issued, *_ = certificates(authority(path).issue_controller().chain)
    assert list(issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "", uri: str = "") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if uri:
        uris = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(uris, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_of_a_request_the_key_alone_is_taken(path: Path) -> None:
    key = new_key()
    assert read_csr("csr", request(key)) == key.public_key()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.MALFORMED),
        ("x" * 20_000, Reason.TOO_LONG),
        (request(new_key(), name="host b"), Reason.NOT_ALLOWED),
        (request(new_key(), uri=f"spiffe://{YARD}/host/{HOST}"), Reason.NOT_ALLOWED),
        (request(rsa.generate_private_key(65537, 2048)), Reason.NOT_SUPPORTED),
        (request(ec.generate_private_key(ec.SECP384R1())), Reason.NOT_SUPPORTED),
    ],
    ids=["empty", "long", "another's name", "another's id", "RSA", "P-384"],
)
def test_requests_that_are_refused(text: str, reason: Reason) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        read_csr("csr", text)
    assert [violation.reason for violation in refused.value.violations] == [reason]


def test_a_request_that_another_key_signed_is_refused() -> None:
    whole = x509.load_pem_x509_csr(request(new_key()).encode())
    other = x509.load_pem_x509_csr(request(new_key()).encode())
    forged = whole.public_bytes(serialization.Encoding.DER).replace(
        whole.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
        other.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
    )
    pem = x509.load_der_x509_csr(forged).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(InvalidArgumentError, match="not signed"):
        read_csr("csr", pem)


def test_while_a_ca_is_replaced_both_are_trusted(path: Path) -> None:
    running = authority(path)
    old_bundle, old_mark, old_chain = running.bundle, running.fingerprint, running.issue_controller().chain
    replace_ca(path, NOW)
    assert running.fingerprint != old_mark, "what runs goes on with the new one"
    assert running.yard == YARD
    chain = running.issue_controller().chain
    assert issued_by(chain, old_bundle), "who knows the former alone"
    assert issued_by(chain, running.bundle)
    assert issued_by(old_chain, running.bundle)
    with pytest.raises(FileExistsError):
        replace_ca(path, NOW)
    drop_former_ca(path)
    assert issued_by(running.issue_controller().chain, running.bundle)
    assert not issued_by(old_chain, running.bundle)
    assert len(certificates(running.issue_controller().chain)) == 1
    with pytest.raises(FileNotFoundError):
        drop_former_ca(path)


def test_a_ca_that_goes_while_it_is_used_is_gone_on_with(path: Path) -> None:
    running = authority(path)
    path.unlink()
    assert running.issue_controller().chain


# The commands --------------------------------------------------------------------------------


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_init_makes_a_yard_and_says_where_its_administrators_credentials_are(tmp_path: Path) -> None:
    ca = tmp_path / "state" / "ca.pem"
    made = ran("init", "--ca", str(ca), "--address", "10.0.0.1")
    assert made.exit_code == 0, made.output
    found = read_credentials(ca.with_name("administrator.toml"))
    assert (found.address, found.yard) == ("10.0.0.1:8470", authority(ca).yard)
    assert found.ca == authority(ca).bundle
    known = read_administrator(ca.with_name("administrator.json"))
    assert known is not None
    assert split_token(found.token) == (known.token_id, known.token_sha256)
    assert found.token not in ca.with_name("administrator.json").read_text()
    for name in ("ca.pem", "administrator.toml", "administrator.json"):
        assert stat.S_IMODE(ca.with_name(name).stat().st_mode) == 0o600
    before = ca.read_bytes()
    again = ran("init", "--ca", str(ca))
    assert (again.exit_code, "there is a CA already" in again.output) == (1, True)
    assert ran("init", "--ca", str(ca), "--if-missing").exit_code == 0
    assert ca.read_bytes() == before


def test_a_certificate_for_a_gateway_is_for_its_names_and_a_browsers_longest_time(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    made = ran("certificate", "--ca", str(path), "--name", "yard.example.org", "--name", "10.0.0.1", str(folder))
    assert made.exit_code == 0, made.output
    (issued,) = certificates((folder / "tls.crt").read_bytes())
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["yard.example.org", "10.0.0.1"]
    assert issued_by((folder / "tls.crt").read_bytes(), (folder / "ca.crt").read_text())
    assert stat.S_IMODE((folder / "tls.key").stat().st_mode) == 0o600
    assert ran("certificate", "--ca", str(path), "--name", "x", "--days", "398", str(folder)).exit_code == 2
    assert ran("certificate", "--ca", str(tmp_path / "none"), "--name", "x", str(folder)).exit_code == 1
