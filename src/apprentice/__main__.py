"""`python -m apprentice`."""

from apprentice.cli.main import main

main()
