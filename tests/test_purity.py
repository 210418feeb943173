"""policy is a compiler without I/O: importing it pulls in no client, socket or event loop (design: policy is pure)."""

import subprocess
import sys

FORBIDDEN = ("asyncio", "socket", "sqlalchemy", "grpc", "pyroute2", "subprocess")


def test_importing_evaluate_in_a_fresh_process_brings_no_io() -> None:
    program = f"import policy.evaluate, sys; print([m for m in {FORBIDDEN!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
