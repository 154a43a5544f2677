"""Templates of the findings section of synthetic reports, by finding.

Fields: {where} the place with its article, {side} "right", "left" or "bilateral", {size} an
adjective, {kind} the object. The first letter of a template is capitalized when it is used.
"""

SIZES = {
    "small": ("small", "mild", "minimal"),
    "moderate": ("moderate", "moderate-sized", "moderate"),
    "large": ("large", "extensive", "marked"),
}

POSITIVE = {
    "consolidation": (
        "there is {size} consolidation in {where}.",
        "{size} airspace consolidation is seen in {where}, suspicious for pneumonia.",
        "focal airspace opacity in {where} is concerning for pneumonia.",
        "patchy airspace disease involves {where}.",
        "new {size} consolidation within {where} compatible with pneumonia.",
        "ill-defined airspace opacity projects over {where}.",
        "in {where} there is confluent consolidation with indistinct margins.",
        "{where} shows {size} alveolar consolidation.",
        "hazy airspace opacification of {where} likely reflects pneumonia.",
        "{size} infiltrate and consolidation in {where}.",
    ),
    "pleural effusion": (
        "there is {size} {side} pleural effusion.",
        "{size} {side} pleural effusion is present.",
        "{side} costophrenic angle blunting, consistent with {size} pleural effusion.",
        "{size} {side} effusion with a meniscus along the lateral chest wall.",
        "layering {side} pleural fluid, {size} in amount.",
        "the diaphragm is obscured by {size} {side} pleural effusion.",
        "{side} pleural effusion, {size}, is again noted.",
        "{size} amount of {side} basal pleural fluid.",
        "{side} pleural effusion, {size} in extent.",
    ),
    "pneumothorax": (
        "there is a {size} {side} pneumothorax.",
        "{size} {side} apical pneumothorax is present.",
        "a visceral pleural line is seen at the {side} apex, consistent with {size} pneumothorax.",
        "{side} pneumothorax, {size} in size.",
        "{size} {side} pneumothorax with partial loss of lung markings laterally.",
        "lucency without vascular markings along the {side} apex indicates a {size} pneumothorax.",
        "new {size} pneumothorax on the {side}.",
        "the {side} lung is separated from the chest wall by a {size} pneumothorax.",
    ),
    "nodule": (
        "there is a {size} pulmonary nodule in {where}.",
        "a {size} rounded nodule projects over {where}.",
        "{size} well-circumscribed nodule in {where}.",
        "nodular opacity in {where}, {size}, should be followed.",
        "a {size} nodule is noted in {where}.",
        "within {where} a {size} pulmonary nodule is seen.",
        "{where} contains a {size} nodule.",
        "solitary {size} nodular density over {where}.",
        "a {size} lung nodule in {where} warrants further evaluation with CT.",
    ),
    "cardiomegaly": (
        "the heart is enlarged.",
        "there is {size} cardiomegaly.",
        "the cardiac silhouette is {size_adverb} enlarged.",
        "cardiomegaly is present.",
        "{size_adverb} enlarged heart size.",
        "enlargement of the cardiac silhouette is again seen.",
        "heart size is {size_adverb} enlarged with a cardiothoracic ratio above one half.",
        "the cardiomediastinal silhouette shows {size} cardiomegaly.",
        "the cardiac contour is enlarged.",
    ),
    "atelectasis": (
        "{size} atelectasis in {where}.",
        "there is {size} atelectasis at {where}.",
        "volume loss in {where} consistent with atelectasis.",
        "{where} shows {size} atelectatic change.",
        "opacity in {where} with volume loss, most likely atelectasis.",
        "atelectasis of {where} is seen.",
        "{size} subsegmental atelectasis within {where}.",
        "partial collapse and atelectasis of {where}.",
        "bandlike atelectasis is present in {where}.",
    ),
    "foreign object": (
        "a radiopaque foreign object, likely a {kind}, projects over {where}.",
        "a {kind} overlies {where}.",
        "metallic foreign body resembling a {kind} over {where}.",
        "there is a foreign object projecting over {where}, compatible with a {kind}.",
        "external {kind} noted over {where}.",
        "radiopaque foreign body is seen over {where}.",
        "a {kind} is superimposed on {where}.",
        "dense foreign object overlying {where}, probably a {kind}.",
    ),
}

UNCERTAIN = {
    "consolidation": (
        "possible consolidation in {where}.",
        "airspace opacity in {where} may represent pneumonia or overlapping structures.",
        "early consolidation in {where} cannot be excluded.",
    ),
    "pleural effusion": (
        "possible {side} pleural effusion.",
        "{side} pleural effusion cannot be excluded.",
        "{side} costophrenic angle blunting may represent effusion or pleural scarring.",
    ),
    "pneumothorax": (
        "questionable {side} apical pneumothorax.",
        "a {side} pneumothorax cannot be excluded.",
        "possible small {side} pneumothorax versus skin fold.",
    ),
    "nodule": (
        "possible nodule in {where}.",
        "nodular density over {where} may represent a nipple shadow.",
        "a nodule in {where} cannot be excluded.",
    ),
    "cardiomegaly": (
        "possible cardiomegaly, although the projection exaggerates heart size.",
        "heart size is borderline, and cardiomegaly cannot be excluded.",
        "questionable enlargement of the cardiac silhouette.",
    ),
    "atelectasis": (
        "opacity in {where} may represent atelectasis.",
        "possible atelectasis in {where}.",
        "atelectasis in {where} is suspected.",
    ),
    "foreign object": (
        "density over {where} may represent a foreign object.",
        "possible foreign body projecting over {where}.",
        "questionable foreign object over {where}.",
    ),
}

NEGATIVE = {
    "consolidation": (
        "no focal consolidation.",
        "no evidence of pneumonia.",
        "there is no airspace consolidation.",
        "no focal airspace disease to suggest pneumonia.",
        "the lungs are without consolidation.",
        "negative for pneumonia.",
    ),
    "pleural effusion": (
        "no pleural effusion.",
        "there is no pleural effusion on either side.",
        "the costophrenic angles are sharp.",
        "no pleural fluid is identified.",
        "no evidence of effusion.",
    ),
    "pneumothorax": (
        "no pneumothorax.",
        "there is no pneumothorax.",
        "no evidence of pneumothorax.",
        "no pneumothorax is identified on this view.",
        "negative for pneumothorax.",
    ),
    "nodule": (
        "no pulmonary nodule.",
        "no suspicious nodule is seen.",
        "there is no discrete nodule.",
        "no evidence of pulmonary nodules.",
        "negative for suspicious nodules.",
    ),
    "cardiomegaly": (
        "the heart is normal in size.",
        "heart size is within normal limits.",
        "the cardiac silhouette is normal.",
        "no cardiomegaly.",
        "heart size normal.",
        "the cardiac contour is not enlarged.",
    ),
    "atelectasis": (
        "no atelectasis.",
        "there is no atelectasis or volume loss.",
        "no evidence of atelectasis.",
        "lung volumes are preserved without atelectasis.",
        "no collapse is seen.",
    ),
    "foreign object": (
        "no radiopaque foreign body.",
        "no foreign object is seen.",
        "there is no foreign body.",
        "no unexpected foreign object.",
        "negative for radiopaque foreign body.",
    ),
}

JOINT_NEGATIVE = (
    (
        ("pleural effusion", "pneumothorax"),
        (
            "no pleural effusion or pneumothorax.",
            "there is no effusion or pneumothorax.",
            "no pneumothorax or large pleural effusion is seen.",
        ),
    ),
    (
        ("consolidation", "pleural effusion", "pneumothorax"),
        (
            "no focal consolidation, pleural effusion, or pneumothorax.",
            "there is no consolidation, effusion or pneumothorax.",
            "no pneumothorax, pleural effusion, or focal airspace consolidation.",
        ),
    ),
    (
        ("consolidation", "nodule", "atelectasis", "pleural effusion", "pneumothorax"),
        (
            "the lungs are clear.",
            "both lungs are well expanded and clear.",
            "clear lungs bilaterally.",
        ),
    ),
)
"""Sentences that deny several findings at once; used only if all of them are absent."""

NORMAL = (
    "the osseous structures are intact.",
    "no acute bony abnormality.",
    "visualized bones are unremarkable.",
    "mild degenerative changes of the thoracic spine.",
    "the mediastinal contours are unremarkable.",
    "the hilar contours are normal.",
    "the trachea is midline.",
    "the aorta is mildly tortuous.",
    "pulmonary vasculature is not congested.",
    "the upper abdomen is unremarkable.",
    "soft tissues are unremarkable.",
    "no free air under the diaphragm.",
    "no displaced rib fracture.",
)

DEVICES = {
    "ecg leads": ("ECG leads overlie the chest.", "monitoring leads project over the thorax."),
    "central line": (
        "a right central venous catheter terminates in the superior vena cava.",
        "the tip of the central line projects over the SVC.",
    ),
    "endotracheal tube": (
        "the endotracheal tube terminates above the carina.",
        "an endotracheal tube is in standard position.",
    ),
    "enteric tube": (
        "the enteric tube courses below the diaphragm.",
        "a nasogastric tube terminates in the stomach.",
    ),
    "pacemaker": (
        "a {side} chest wall pacemaker with its lead in the right ventricle.",
        "{side}-sided pacemaker is unchanged in position.",
    ),
    "sternal wires": (
        "median sternotomy wires are intact.",
        "the patient is status post median sternotomy.",
    ),
    "chest tube": (
        "a {side} chest tube is in place.",
        "{side}-sided thoracostomy tube is again noted.",
    ),
}

ADVERBS = {"small": "mildly", "moderate": "moderately", "large": "markedly"}
