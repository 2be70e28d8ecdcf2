"""Which words name a structure: the head of the name ("nerve"), and what describes it ("femoral")."""

import re
from collections.abc import Mapping, Sequence

from medx_core.data.function_words import word_set

_SINGULAR = {
    **{each: each for each in ("nerve", "artery", "vein", "muscle", "gland", "joint", "bone", "lobe", "plexus", "tract",
                               "ganglion", "valve", "duct", "sinus", "epithelium", "cartilage", "arch", "node")},
    **dict.fromkeys(("disease", "syndrome"), "disease"),
    **dict.fromkeys(("foramen", "canal", "fissure", "notch", "hiatus", "aperture", "meatus"), "opening"),
    **dict.fromkeys(("fossa", "triangle", "cavity", "recess", "pouch", "space", "region"), "region"),
    **dict.fromkeys(("fascia", "membrane", "septum", "aponeurosis", "retinaculum"), "sheet"),
    **dict.fromkeys(("ligament", "tendon"), "ligament"),
    **dict.fromkeys(("tubercle", "process", "crest", "condyle", "epicondyle", "tuberosity", "malleolus",
                     "trochanter", "spine"), "bony landmark"),
    **dict.fromkeys(("sulcus", "gyrus", "nucleus", "cortex", "peduncle", "fasciculus"), "part of the brain"),
}  # fmt: skip
_PLURAL = {
    "artery": "arteries", "ganglion": "ganglia", "foramen": "foramina", "fossa": "fossae", "cavity": "cavities",
    "fascia": "fasciae", "septum": "septa", "sinus": "sinuses", "process": "processes", "sulcus": "sulci",
    "gyrus": "gyri", "nucleus": "nuclei", "plexus": "plexuses", "tuberosity": "tuberosities", "meatus": "meatuses",
    "aponeurosis": "aponeuroses", "malleolus": "malleoli", "epithelium": "epithelia", "cortex": "cortices",
}  # fmt: skip

HEADS: Mapping[str, str] = {
    **_SINGULAR,
    **{_PLURAL.get(word, word + "s"): kind + " (plural)" for word, kind in _SINGULAR.items()},
}
"""The kind that a head word makes of a name."""

_DESCRIBING_ENDINGS = re.compile(
    r".{2,}(?:al|ar|ic|ac|ior|eal|ous|oid|tid|ary|ory|ian|ine|eus|ius|tus|gus|cus|lis|ris|tis|oris|nis|dii|chii|"
    r"ent|lique|iate|drate|cuate|nate)"
)
_DESCRIBING = word_set(
    "deep common great greater lesser long short left right upper lower middle inner outer optic azygos hemiazygos",
    "circumflex perforating ascending descending communicating vagus hip knee elbow shoulder wrist ankle sweat",
    "thyroid parathyroid lymph portal true false cubital first second third fourth fifth sixth seventh eighth ninth",
    "tenth eleventh twelfth inferior superior stratified squamous simple pseudostratified keratinized",
    "hard soft dural",
)
_GENERAL = word_set(
    "medial lateral anterior posterior superior inferior dorsal ventral deep superficial left right upper lower middle",
    "inner outer long short great greater lesser common internal external ascending descending proximal distal median",
    "central peripheral spinal cranial motor sensory cutaneous muscular somatic visceral parietal autonomic afferent",
    "efferent lymph lymphatic synovial arterial venous nervous vascular fibrous bony articular regional local true false",
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth transverse longitudinal oblique",
    "vertical horizontal circular anatomical intrinsic extrinsic skeletal smooth cardiac spacious irregular rudimentary",
    "patent bilaminar congruent cartilaginous mucous serous pneumatic pathological systemic extrafusal bipennate",
    "quadrilateral parasympathetic sympathetic preaxial postaxial fibroelastic subcutaneous perforating nutrient",
    "intracranial extracranial endocrine alimentary tendinous intersegmental commissural cortical capsular digital",
    "marginal respiratory simple communicating accessory",
)
_NO_NAME = word_set(
    "usual several various numerous important essential critical vital crucial typical normal principal main specific",
    "special additional terminal initial final total equal continuous clinical surgical functional structural this its",
    "near similar individual prominent potential actual real integral single different present prevent treatment patient segment",
    "consistent independent dependent adjacent movement attachment ligament genetic chronic acute congenital serious",
    "dangerous general basic original natural physical chemical characteristic bilateral unilateral ipsilateral",
    "contralateral human pelvis penis testis pubis sinus nucleus plexus atlas axis thymus humerus talus calcaneus",
)


def is_descriptive(word: str) -> bool:
    """Whether `word` reads as part of a name, as in "posterior interosseous nerve"."""
    return word not in _NO_NAME and (word in _DESCRIBING or _DESCRIBING_ENDINGS.fullmatch(word) is not None)


def is_telling(describing: Sequence[str]) -> bool:
    """Whether these words tell one structure from others: "femoral" does, "deep" or "spinal" alone do not."""
    return any(word not in _GENERAL for word in describing)
