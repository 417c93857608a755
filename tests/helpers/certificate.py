"""A certificate that this machine signs itself, for a server on it."""

import datetime
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

FILE = "certificate.pem"  # for clients
_KEY = "key.pem"


def make(folder: str, *hosts: str) -> ssl.SSLContext:
    """The context of a server that stands for hosts; its certificate is `FILE` in the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    for file, content in (
        (FILE, certificate.public_bytes(encoding)),
        (_KEY, key.private_bytes(encoding, pkcs8, plain)),
    ):
        with open(os.path.join(folder, file), "wb") as opened:
            opened.write(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, FILE), os.path.join(folder, _KEY))
    return context
