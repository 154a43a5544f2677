"""The paper's ablation studies of G2D (arXiv 2312.01522, tables 5a to 5f and 8), and further ones.

The first arm of a study is the reference that the others are compared with.
"""

from g2dbench.recipes.study import ENCODER_ONLY, Arm, Study

STUDIES: tuple[Study, ...] = (
    Study(
        "decoder",
        "what should the decoder be trained on?",
        ("5a", "8"),
        (
            Arm("pseudo masks", paper="pseudo-segmentation"),
            Arm("none", ("model.pixel.target=none",), paper="none"),
            Arm("reconstruction", ("model.pixel.target=image",), paper="reconstruction"),
            Arm("shuffled masks", ("model.mask.pairing=shuffled",), paper="shuffled"),
            Arm("pseudo masks, encoder only", transfer=ENCODER_ONLY),
        ),
    ),
    Study(
        "threshold",
        "where should the attention be thresholded?",
        ("5b",),
        (
            Arm("85th percentile", ("model.mask.percentile=85",), paper="85th percentile"),
            Arm("75th percentile", ("model.mask.percentile=75",), paper="75th percentile"),
            Arm("median", ("model.mask.percentile=50",), paper="median"),
            Arm("mixture", ("model.mask.threshold=mixture",), paper="GMM"),
        ),
    ),
    Study(
        "projection",
        "how wide should the shared space be?",
        ("5c",),
        tuple(Arm(f"{n}", (f"model.width={n}",), paper=f"{n}") for n in (128, 256, 512)),
    ),
    Study(
        "aggregation",
        "one mask from all heads, or one per head?",
        ("5d",),
        (
            Arm("mean of heads", ("model.mask.heads=mean",), paper="yes"),
            Arm("one mask a head", ("model.mask.heads=separate",), paper="no"),
        ),
    ),
    Study(
        "heads",
        "how many attention heads?",
        ("5e",),
        tuple(Arm(f"{n}", (f"model.attention.heads={n}",), paper=f"{n}") for n in (3, 1, 2, 4)),
    ),
    Study(
        "refinement",
        "do the body mask and smoothing help?",
        ("5f",),
        (
            Arm("both", paper="both"),
            Arm("no body mask", ("model.mask.body=none",), paper="without body mask"),
            Arm("no smoothing", ("model.mask.smoothing=none",), paper="without edge smoothing"),
        ),
    ),
    Study(
        "weight",
        "how much should pixel alignment weigh?",
        (),
        tuple(
            Arm(f"x {n:g}", (f"model.pixel.dice={n / 2}", f"model.pixel.bce={n / 2}"))
            for n in (1.0, 0.25, 4.0)
        ),
    ),
    Study(
        "start",
        "when should pixel alignment start?",
        (),
        (
            Arm("the recipe's step"),
            Arm("at once", ("model.pixel.start=0",)),
            Arm("200 steps", ("model.pixel.start=200",)),
            Arm("400 steps", ("model.pixel.start=400",)),
        ),
    ),
    Study(
        "resolution",
        "how large should the images be?",
        (),
        tuple(Arm(f"{n} px", (f"model.image.size={n}",)) for n in (64, 96, 128)),
    ),
    Study(
        "source",
        "masks from the query's attention, or from the report?",
        (),
        (
            Arm("query", ("model.mask.source=query",)),
            Arm("report", ("model.mask.source=report",)),
            Arm("report, edges of the image", (
                "model.mask.source=report", "model.mask.smoothing=guided",
            )),
        ),
    ),
)  # fmt: skip
