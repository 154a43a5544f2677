"""Templates of the impressions of synthetic reports; their fields are those of `_phrases`."""

SUMMARY = {
    "consolidation": (
        "{side} {zone} consolidation, suspicious for pneumonia.",
        "findings compatible with {side} pneumonia.",
        "{side} {zone} zone pneumonia.",
        "{side} airspace consolidation.",
    ),
    "pleural effusion": (
        "{size} {side} pleural effusion.",
        "{side} pleural effusion.",
        "pleural effusion, {side}.",
    ),
    "pneumothorax": (
        "{size} {side} pneumothorax.",
        "{side} pneumothorax.",
        "pneumothorax on the {side}; clinical team notified.",
    ),
    "nodule": (
        "{side} {zone} zone pulmonary nodule; CT is recommended.",
        "pulmonary nodule, {side} lung.",
        "{size} {side} lung nodule.",
    ),
    "cardiomegaly": ("cardiomegaly.", "enlarged heart.", "stable cardiomegaly."),
    "atelectasis": (
        "{side} {zone} zone atelectasis.",
        "{size} {side} atelectasis.",
        "atelectasis with volume loss, {side}.",
    ),
    "foreign object": (
        "foreign object projecting over the chest.",
        "radiopaque foreign body as described.",
        "{kind} overlying the chest.",
    ),
}

SUMMARY_UNCERTAIN = {
    "consolidation": ("possible {side} pneumonia.", "pneumonia is not excluded."),
    "pleural effusion": ("possible {side} pleural effusion.",),
    "pneumothorax": ("possible {side} pneumothorax; repeat film suggested.",),
    "nodule": ("possible {side} nodule; correlation with prior films is suggested.",),
    "cardiomegaly": ("possible cardiomegaly.",),
    "atelectasis": ("possible {side} atelectasis.",),
    "foreign object": ("possible foreign object.",),
}

ALL_NORMAL = (
    "no acute cardiopulmonary process.",
    "no acute cardiopulmonary abnormality.",
    "normal chest radiograph.",
    "no acute disease.",
    "no evidence of pneumonia or other acute process.",
)
"""Impressions of an image without any finding."""

NEUTRAL = (
    "findings as described above.",
    "no significant interval change.",
    "clinical correlation is recommended.",
)
"""Impressions that neither affirm nor deny a finding, for findings that the report omits."""
