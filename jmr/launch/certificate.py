"""A certificate of a coordinator's own, made when it begins to listen.

Nobody signs it, and it need say nothing: the handshake binds the proofs of both ends to the very certificate that each
of them sees.
"""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
import subprocess
import tempfile

from jmr.errors import WorkerError

__all__ = ["server_context"]

_NAME = "jmr"
_DAYS = 3650
_OPENSSL_REQUEST = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
    *("-keyout", "-", "-out", "-"),
)


def server_context() -> tuple[ssl.SSLContext, bytes]:
    """TLS 1.3 for the coordinator's side, with a new key; and the certificate, in DER.

    Raises
    ------
    WorkerError
        Nothing here can make a certificate.
    """
    pem = _with_cryptography() or _with_openssl()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody resumes, and each would be bytes sent before the guest has proved itself
    # Python loads a key from a file only.
    with tempfile.TemporaryDirectory(prefix="jmr-key-") as directory:
        path = os.path.join(directory, "key.pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)
    begin = pem.index(b"-----BEGIN CERTIFICATE-----")
    return context, ssl.PEM_cert_to_DER_cert(pem[begin:].decode())


def _with_cryptography() -> bytes | None:
    """Key and certificate in PEM; None without the package."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        return None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    pem: bytes = private + certificate.public_bytes(serialization.Encoding.PEM)
    return pem


def _with_openssl() -> bytes:
    """The same by the openssl command."""
    command = shutil.which("openssl")
    if command is None:
        raise WorkerError(
            'to listen takes a certificate, and nothing here can make one: pip install "jmr[remote]", or install the '
            "openssl command"
        )
    made = subprocess.run(
        [command, *_OPENSSL_REQUEST, "-days", str(_DAYS), "-subj", f"/CN={_NAME}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        raise WorkerError(
            f"the openssl command cannot make a certificate: {made.stderr.decode(errors='replace').strip()}"
        )
    return made.stdout
