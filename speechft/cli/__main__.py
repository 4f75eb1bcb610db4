"""`python -m speechft.cli`."""

from speechft.cli import main

main()
