"""Private Valkey and PostgreSQL servers in a data folder, for one machine: demo, development and tests.

Here: the folder and its lock, where the binaries are, starting, watching and stopping the servers. Not here: what is
stored in them, and the gateway's own processes.
"""

from gateway.embedded.folder import DataFolder, RunningGateway
from gateway.embedded.servers import EmbeddedServers, ServerUrls

__all__ = ["DataFolder", "EmbeddedServers", "RunningGateway", "ServerUrls"]
