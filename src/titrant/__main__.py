"""`python -m titrant`: the command line, where its script is not on the path."""

from titrant.cli import main

main()
