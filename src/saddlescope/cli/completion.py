"""saddlescope completion: the script that lets a shell complete commands, options and their values."""

import sys
from typing import Literal

from cyclopts import App

Shell = Literal["bash", "zsh", "fish"]


def add_completion(app: App) -> None:
    """Add the command ``completion`` to the application whose commands it completes."""

    def completion(shell: Shell) -> int:
        """Print the completion script of a shell.

        Example: saddlescope completion bash > ~/.local/share/bash-completion/completions/saddlescope

        Parameters
        ----------
        shell
            bash, zsh or fish.
        """
        sys.stdout.write(app.generate_completion(shell=shell).rstrip("\n") + "\n")
        return 0

    app.command(completion)
