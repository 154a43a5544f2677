"""Which views of a chest radiograph count as frontal."""

_FRONTAL = ("pa", "ap", "frontal", "postero", "antero")


def is_frontal(view: str | None) -> bool:
    """Whether a view is PA, AP or frontal by whatever name; unknown ones are taken for it."""
    return view is None or view.strip().lower().startswith(_FRONTAL)
