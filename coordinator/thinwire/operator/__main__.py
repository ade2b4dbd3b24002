"""`python -m thinwire.operator` is the command `thinwire`."""

from .cli import main

if __name__ == "__main__":
    main()
