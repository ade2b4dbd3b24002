"""`python -m thinwire.coordinator` is the command `thinwire`."""

from .cli import main

if __name__ == "__main__":
    main()
