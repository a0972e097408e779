"""What DP-CLIP calls the classes in its prompts: phrases that describe what is to be seen, from its configuration."""

from collections.abc import Mapping
from types import MappingProxyType

MVTEC: Mapping[str, str] = MappingProxyType(
    {
        "bottle": "dark bottle",
        "cable": "top view of three cables",
        "capsule": "black and orange capsule",
        "carpet": "gray carpet",
        "grid": "metal or plastic mesh",
        "hazelnut": "single brown hazelnut",
        "leather": "brown leather",
        "metal_nut": "metal nut which has four notched edges",
        "pill": "oval white pill with small red speckles and the letters 'FF' engraved",
        "screw": "screw",
        "tile": "speckled tile surface",
        "transistor": "a three-legged transistor placed vertically",
        "toothbrush": "toothbrush head",
        "wood": "wood surface",
        "zipper": "a black zipper",
    }
)
VISA: Mapping[str, str] = MappingProxyType(
    {
        "candle": "candle",
        "capsules": "capsules",
        "cashew": "cashew nut",
        "chewinggum": "chewing gum",
        "fryum": "wheel-shaped fryum snack",
        "macaroni1": "orange macaroni",
        "macaroni2": "scattered yellow macaroni",
        "pcb1": "dual ultrasonic distance sensor pcb module",
        "pcb2": "integrated circuits board",
        "pcb3": "infrared sensor pcb module",
        "pcb4": "battery charging pcb module",
        "pipe_fryum": "pipe-shaped fryum",
    }
)
MPDD: Mapping[str, str] = MappingProxyType(
    {
        "connector": "metal clamps with black adjustment knobs",
        "tubes": "scattered metal objects",
        "metal_plate": "blue rectangular metal plate with a notch on one side",
        "bracket_white": "white, elongated triangular metal bracket with a smooth, matte finish",
        "bracket_brown": "brown L-shaped metal bracket with smooth, glossy finish and multiple mounting holes "
        "along its arms",
        "bracket_black": "black ornamental metal bracket with spiral design attached to a rectangular frame",
    }
)
BTAD: Mapping[str, str] = MappingProxyType(
    {
        "01": "Bright concentric rings in neon yellow and blue tones against a dark blue background, resembling "
        "a stylized wave or energy field radiating outward.",
        "02": "vertical fabric lines in warm, dusty pink and beige tones",
        "03": "oval concentric circular rings in gradient shades of blue and white",
    }
)
SCAN = "scan"  # brain, liver and retina
COLON = "colon endoscopy image"  # the four colon sets
