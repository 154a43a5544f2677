"""`python -m g2dbench ...` is `g2dbench ...`; torchrun starts it this way."""

from g2dbench.cli import app

if __name__ == "__main__":
    app(prog_name="g2dbench")
