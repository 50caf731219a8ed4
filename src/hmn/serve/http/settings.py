"""Settings of the server: where it listens, who may write, and what is too much."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from hmn.errors import ConfigError

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""Names by which a browser on the same machine reaches the server."""


@dataclass(frozen=True)
class Settings:
    """Settings of the server.

    Attributes:
        host: address that it listens on.
        port: port that it listens on; 0 for any.
        token: secret that allows everything; without it, none is asked for.
        read_token: secret that allows reading alone.
        allow_writes: allow writes without a token, on a loopback address.
        hosts: further names by which clients may call the server, without the port.
        most_body: upper limit of a request's body, in bytes.
        most_questions: upper limit of questions per request.
        most_facts: upper limit of facts per request.
        most_in_flight: upper limit of requests that are worked on; others have to come again.
        receive_seconds: seconds within which the headers, and then the body, must have come.
        answer_seconds: seconds within which an answer must be there.

    Raises:
        ConfigError: The server would be open to others than this machine without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    read_token: str | None = field(default=None, repr=False)
    allow_writes: bool = False
    hosts: tuple[str, ...] = ()
    most_body: int = 1 << 20
    most_questions: int = 256
    most_facts: int = 10_000
    most_in_flight: int = 64
    receive_seconds: float = 10.0
    answer_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what would be open to everybody."""
        if not self.is_local and self.token is None:
            raise ConfigError(
                f"host is {self.host!r}, which others reach, expected a token with it: give --token-file"
            )
        if self.allow_writes and (not self.is_local or self.token is not None):
            raise ConfigError(
                "allow_writes is for a loopback address without a token: leave it out, and use the token"
            )
        if self.read_token is not None and self.token is None:
            raise ConfigError("read_token is given without token: give --token-file as well")
        if self.token is not None and self.token == self.read_token:
            raise ConfigError("token and read_token are the same secret, expected two: make another one")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names that a request may call the server by; empty if any will do."""
        if not self.is_local and not self.hosts:
            return frozenset()
        return frozenset(name.lower() for name in (*LOCAL_NAMES, self.host, *self.hosts))
