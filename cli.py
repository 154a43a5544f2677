"""`python cli.py ...` in a checkout is `g2dbench ...`."""

from g2dbench.cli import app

if __name__ == "__main__":
    app()
