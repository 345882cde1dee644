"""What the robustness stage corrupts of the test data, and how much; see msabench.corruption."""

from collections.abc import Mapping

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the frames or tokens of each utterance
DEVIATIONS = (0.0, 0.5, 1.0, 2.0, 4.0)  # standard deviations of a feature

# What is corrupted, `<modality>_<how>`, and how much.
LEVELS: Mapping[str, tuple[float, ...]] = {
    "text_missing": SHARES,
    "audio_missing": SHARES,
    "vision_missing": SHARES,
    "text_noise": SHARES,
    "audio_noise": DEVIATIONS,
    "vision_noise": DEVIATIONS,
}
