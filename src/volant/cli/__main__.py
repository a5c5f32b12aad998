"""`python -m volant.cli`: the same as `volant`, for where no script is on the path."""

from volant.cli import main

main()
