"""`python -m thinwire.coordinator` is `thinwire serve`."""

from .command import app

if __name__ == "__main__":
    app(prog_name="thinwire serve")
