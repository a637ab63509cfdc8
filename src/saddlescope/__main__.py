"""``python -m saddlescope`` is the command ``saddlescope``."""

from saddlescope.cli.main import main

if __name__ == "__main__":
    main()
