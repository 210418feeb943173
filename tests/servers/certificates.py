"""Certificates for servers in tests, made by openssl: an authority, and what it signs."""

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority whose files are in `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.certificate = folder / f"{name}.crt"
        self._folder = folder
        self._key = folder / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def sign(self, name: str, *alternatives: str) -> tuple[Path, Path]:
        """A certificate for `name` and what it is also called (such as IP:127.0.0.1), and its key."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        extension = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", *extension, "-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", str(self.certificate), "-CAkey", str(self._key), "-keyout", str(key), "-out", str(certificate)),
        )
        key.chmod(0o600)
        return certificate, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
