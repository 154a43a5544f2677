"""One file per task; imported as `g2dbench.tasks`, found by the registry."""

if __name__ != "g2dbench.tasks":
    raise ImportError("import this folder as `g2dbench.tasks`, never by its bare name")
