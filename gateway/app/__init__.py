"""The only assembler: builds every object of each process, and says in which order they start and stop."""

from gateway.app.api import run_api
from gateway.app.keeper import run_keeper
from gateway.app.live import run_live
from gateway.app.tools import run_audit, run_rebuild
from gateway.app.writer import run_writer

__all__ = ["run_api", "run_audit", "run_keeper", "run_live", "run_rebuild", "run_writer"]
