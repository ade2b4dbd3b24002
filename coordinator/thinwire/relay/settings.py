"""What `thinwire relay` is told. Each field is one of its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from thinwire.protocol.command_options import Written
from thinwire.protocol.places import on_this_machine
from thinwire.protocol.settings import Settings


class RelaySettings(Settings):
    """One relay. What it keeps lies in `data_dir`, and nothing of it is lost with it."""

    data_dir: Annotated[Path, Written(envvar="THINWIRE_RELAY_DIR")] = Field(
        default=Path("thinwire-relay"), description="folder of payloads that are kept and uploads on their way"
    )
    host: str = Field(default="127.0.0.1", max_length=255, description="address to listen at, for the devices")
    port: int = Field(default=8081, ge=0, le=65535, description="0: a free one")
    certificate: Path | None = Field(default=None, description="TLS certificate chain for the devices, PEM")
    key: Path | None = Field(default=None, description="TLS private key, PEM")
    insecure: bool = Field(default=False, description="plain HTTP beyond loopback")
    ca_file: Path | None = Field(default=None, description="certificates to trust at URL instead of the system's")
    cache_bytes: int = Field(default=1 << 33, ge=0, description="of payloads that are kept; the longest unused go")
    max_upload_bytes: int = Field(default=1 << 36, ge=1, description="of uploads on their way, all devices together")
    stalled_after_s: float = Field(
        default=60.0, gt=0, le=3600, description="seconds without one byte after which a request over the link is cut"
    )
    stats: Path | None = Field(default=None, description="write byte counts here each minute and at exit, as JSON")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="text or json: one object a line")

    @model_validator(mode="after")
    def _transport(self) -> RelaySettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key and a key its certificate")
        if not on_this_machine(self.host) and self.certificate is None and not self.insecure:
            raise ValueError(f"{self.host} is reachable from outside: give a certificate and key, or insecure")
        return self
