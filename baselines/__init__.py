"""One file per wrapped model; imported as `g2dbench.baselines`, found through the registry."""

if __name__ != "g2dbench.baselines":
    raise ImportError("import this folder as `g2dbench.baselines`, never by its bare name")
