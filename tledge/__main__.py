"""`python -m tledge` is the command line."""

from tledge.cli import main

if __name__ == "__main__":
    main()
