"""What `thinwire serve` is told: place, limits, durability. Each field is one of its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from thinwire.protocol.command_options import Written
from thinwire.protocol.places import on_this_machine
from thinwire.protocol.settings import Settings

from .wire.addresses import Proxies


class ServeSettings(Settings):
    """One coordinator. Everything it remembers lies in `data_dir`."""

    data_dir: Annotated[Path, Written(envvar="THINWIRE_DATA_DIR")] = Field(
        default=Path("thinwire-data"), description="folder of database, payloads, checkpoints"
    )
    database: Annotated[str, Written(envvar="THINWIRE_DATABASE")] = Field(
        default="", max_length=2000,
        description="postgresql://... of the database that replicas share; default: SQLite in the data folder",
    )  # fmt: skip
    objects: Annotated[str, Written(envvar="THINWIRE_OBJECTS")] = Field(
        default="", max_length=2000,
        description="store that replicas share: s3://..., gs://..., az://... or file:///...; default: the data folder",
    )  # fmt: skip
    cache_bytes: int = Field(default=1 << 33, ge=0, description="of local copies of what lies in the store")
    host: str = Field(default="127.0.0.1", max_length=255, description="address to listen at")
    port: int = Field(default=8080, ge=0, le=65535, description="0: a free one")
    certificate: Path | None = Field(default=None, description="TLS certificate chain, PEM")
    key: Path | None = Field(default=None, description="TLS private key, PEM")
    insecure: bool = Field(default=False, description="plain HTTP beyond loopback")
    public_read: bool = Field(default=False, description="reading runs, ledgers and models needs no token")

    stalled_after_s: float = Field(
        default=60.0, gt=0, le=3600, description="seconds without one byte after which a transfer is cut"
    )
    present_for_s: float = Field(default=180.0, gt=0, description="seconds a client counts as present after a request")
    durability: Literal["process", "fsync"] = Field(
        default="process", description="process or fsync: what acknowledged answers survive the death of"
    )
    max_model_bytes: int = Field(default=1 << 32, ge=1, description="of a submitted model")
    max_clients: int = Field(default=100_000, ge=1, description="that may enrol")
    max_pending: int = Field(
        default=100, ge=0, le=10_000,
        description="devices without an invite that may wait to be let in, a fifth of them from one address; 0: none",
    )  # fmt: skip
    max_uploads_per_client: int = Field(default=4, ge=1, description="open at a time")
    max_upload_bytes_per_client: int = Field(default=1 << 36, ge=1, description="open uploads of one client")
    max_upload_bytes_per_run: int = Field(default=1 << 40, ge=1, description="open uploads of one run")
    max_disk_bytes: int | None = Field(
        default=None, ge=1, description="in the data folder; beyond, no upload and no model is taken; default: no limit"
    )
    max_runs: int = Field(default=10_000, ge=1, description="that it keeps")
    upload_expires_s: float = Field(
        default=86_400.0, gt=0, description="seconds without one byte after which an upload is deleted"
    )
    max_requests_per_client: int = Field(default=200, ge=1, description="a second, over ten seconds")
    max_requests_per_address: int = Field(default=2000, ge=1, description="a second, over ten seconds")
    max_failures_per_address: int = Field(default=120, ge=1, description="wrong tokens and invites a minute")
    max_connections_per_address: int = Field(default=4096, ge=1, description="at a time")
    trusted_proxies: str = Field(
        default="", max_length=1000,
        description="addresses, separated by commas: their X-Forwarded-For is believed, they have no limits",
    )  # fmt: skip
    allowed_hosts: str = Field(
        default="", max_length=1000,
        description="names, separated by commas, that it is asked for by, beside localhost; others are refused",
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="text or json: one object a line")
    otlp: str = Field(
        default="", max_length=1000, pattern=r"^(https?://\S+)?$",
        description="send traces of rounds to this OTLP/HTTP receiver, as http://127.0.0.1:4318",
    )  # fmt: skip
    workers: int = Field(default=2, ge=1, le=64, description="threads that decode, hash and sum")
    decoding: Literal["auto", "threads", "processes"] = Field(
        default="auto", description="whether each worker decodes by itself or has a process do so; auto: where it pays"
    )

    @model_validator(mode="after")
    def _transport(self) -> ServeSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key and a key its certificate")
        if not self.loopback and self.certificate is None and not self.insecure:
            raise ValueError(f"{self.host} is reachable from outside: give a certificate and key, or insecure")
        for host in self.hosts:
            if "/" in host or "]" in host or host.count(":") == 1:
                raise ValueError(f"allowed_hosts: {host!r} is no name: leave scheme, port and path away")
        try:
            _ = self.proxies
        except ValueError as error:
            raise ValueError(f"trusted_proxies: {error}") from None
        return self

    @property
    def proxies(self) -> Proxies:
        """Those of `trusted_proxies`."""
        return Proxies(self.trusted_proxies.replace(",", " ").split())

    @property
    def hosts(self) -> frozenset[str]:
        """The names of `allowed_hosts`, addresses of IPv6 without their brackets."""
        names = self.allowed_hosts.lower().replace(",", " ").split()
        return frozenset(name.removeprefix("[").removesuffix("]") for name in names)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return on_this_machine(self.host)
