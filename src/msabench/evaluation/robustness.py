"""What the robustness stage corrupts of the test data, and how much; see msabench.corruption."""

from collections.abc import Collection, Iterable, Mapping

ALL = "all_missing"  # of every modality the same share at once
TENTHS = tuple(tenths / 10 for tenths in range(10))  # LNLN, Zhang et al., NeurIPS 2024
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the frames or tokens of each utterance
DEVIATIONS = (0.0, 0.5, 1.0, 2.0, 4.0)  # standard deviations of a feature

# What is corrupted, `<modality>_<how>`, and how much.
LEVELS: Mapping[str, tuple[float, ...]] = {
    ALL: TENTHS,
    "text_missing": SHARES,
    "audio_missing": SHARES,
    "vision_missing": SHARES,
    "text_noise": SHARES,
    "audio_noise": DEVIATIONS,
    "vision_noise": DEVIATIONS,
}


def modalities_of(kind: str, present: Iterable[str]) -> list[str]:
    """Name the modalities that a kind corrupts, of those that there are."""
    return [name for name in present if kind == ALL or kind.startswith(f"{name}_")]


def kinds_by_level(present: Collection[str]) -> dict[float, list[str]]:
    """Name the kinds that corrupt some of the modalities that there are, by each of their levels.

    At a level the kinds that corrupt the text in one way follow each other.
    """
    kinds = [kind for kind in LEVELS if modalities_of(kind, present)]
    levels = sorted({level for kind in kinds for level in LEVELS[kind]})
    return {level: [kind for kind in kinds if level in LEVELS[kind]] for level in levels}
