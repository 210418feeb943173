"""The keys and certificates of a control plane, made by openssl: a CA, the server's, clients', tokens'."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_EXTENSIONS = (
    "extendedKeyUsage=serverAuth,clientAuth\nkeyUsage=digitalSignature\nsubjectAltName=DNS:localhost,IP:127.0.0.1"
)


@dataclass(frozen=True, slots=True)
class Certs:
    """A folder of PEM files."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca.crt"

    @property
    def token_key(self) -> Path:
        """Signs the tokens of service accounts."""
        return self.folder / "sa.key"

    @property
    def token_public_key(self) -> Path:
        """Judges them."""
        return self.folder / "sa.pub"

    def certificate(self, name: str) -> Path:
        """Of the server `apiserver`, or of a client that `issue` was called for."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """The private key to `certificate`."""
        return self.folder / f"{name}.key"

    def issue(self, name: str, subject: str, *alternatives: str) -> None:
        """A certificate for `subject` (/O=group/CN=user), and for more names such as IP:10.0.0.1, signed by the CA."""
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(",".join((_EXTENSIONS, *alternatives)) + "\n")
        _openssl("req", *_CURVE, "-subj", subject, "-keyout", self.key(name), "-out", request)
        _openssl(
            *("x509", "-req", "-days", "2", "-CAcreateserial", "-in", request, "-out", self.certificate(name)),
            *("-CA", self.authority, "-CAkey", self.folder / "ca.key", "-extfile", extensions),
        )


def make(folder: Path, *alternatives: str) -> Certs:
    """Certificates in a new folder; the server's is for this machine, and for what else it is to be called."""
    folder.mkdir(parents=True)
    certs = Certs(folder)
    subject = ("-subj", "/CN=tests")
    # A CA without keyUsage is refused by Python 3.13's default, VERIFY_X509_STRICT.
    use = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _openssl(*("req", "-x509", *_CURVE, *subject, *use, "-keyout", folder / "ca.key", "-out", certs.authority))
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", certs.token_key)
    _openssl("pkey", "-in", certs.token_key, "-pubout", "-out", certs.token_public_key)
    certs.issue("apiserver", "/CN=kube-apiserver", *alternatives)
    return certs


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
