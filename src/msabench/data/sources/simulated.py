"""The simulated data set: MOSEI's format, defects and difficulties, with known truths.

Each clip has a felt sentiment z and three unimodal truths: of its words, its voice and its face.
All are sentiments, clipped to -3..3, and N is a normal variable:

    speaker  s ~ N(0, 0.6)                       one per video; a video lies in one split
    felt     z ~ 0.3 + s + N(0, 1.15)            opinionated clips, 79 %
    words    y_t = score(text)                   text generated for z + N(0, 0.4), or -z (irony)
    voice    y_a = z + N(0, 0.9)
    face     y_v = z + N(0, 0.8)
    neutral  y_t = 0;  y_a, y_v ~ N(0.3, 0.4)    the other clips; their text is filler

    n = 0.4 y_a + 0.6 y_v                        the nonverbal sentiment
    y = 0.6 y_t + 0.4 n                          where y_t and n agree in sign,
        0.3 y_t + 0.7 n                          else: voice and face have more weight

y is rounded to MOSEI's grid, thirds (three annotators) or in 1 % of the clips sixths.

Text comes from the grammar in grammar.yaml: opinions of graded strength among neutral filler.
The score of an opinion is the strength of its word times its modifier's factor ("very" 1.3);
negation turns a strength s into -s / 2; after "but" an opinion counts three times that before
it; the score of a text is the mean over its opinions.

Frame k of the T frames of a voice or face, at time u = (k + 1/2) / T, has features

    x_f(u) = offset_f + scale_f (l_f m + r_f o ramp(u) + e_f o event(u) + s_f + AR1_f(u))

m and o are that modality's truth, each with its own noise. m is the level cue, visible in the mean
over time. o, less noisy, is the order cue: a ramp from -1 to 1, and an event, up then down at a
random time, both with mean zero over the frames and inverted by a negative o. So only a model that
uses the order of the frames can read o. The loadings l, r and e are zero for most features, s_f is
the speaker's offset, AR1 is autocorrelated noise, and in audio the scales span six orders of
magnitude, as COVAREP's do.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from msabench.data.sources import mmsa_pickle
from msabench.errors import DataError
from msabench.params import describe, settings_of
from msabench.utterances import SPLITS, Utterances

FULL_LENGTH = 500  # frames of MMSA's unaligned files
STRONGEST = 3.0  # the sentiment range is -3..3
NEUTRAL = 0.21  # share of the clips without an opinion

Count = Annotated[int, Field(ge=1, le=100_000)]
Frames = Annotated[int, Field(ge=4, le=FULL_LENGTH)]
Side = Literal["end", "front"]


def simulate(
    *,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1,
    train: Count = 1500,
    valid: Count = 400,
    test: Count = 800,
    audio_frames: Frames = 100,
    vision_frames: Frames = 60,
    full_length: bool = False,
    padding: Side = "end",
    irony: Annotated[float, Field(ge=0, le=1)] = 0.06,
) -> dict[str, dict[str, Any]]:
    """Return a data set in MMSA's unaligned format: one dictionary per split.

    seed: of all random numbers; a split does not depend on the sizes of the others, nor a text
        on the frames.
    train, valid, test: utterances.
    audio_frames, vision_frames: maximum frames of an utterance, the padded length of the arrays.
    full_length: 500 frames in both modalities, as in MMSA's files, overriding the two above.
    padding: "end" or "front", where the zeros are.
    irony: share of the opinionated clips whose words have the opposite sign of z, 0..1.
    Raises DataError for a setting that is not permitted.
    """
    try:
        settings_of(simulate).model_validate(locals())
    except ValidationError as error:
        raise DataError(describe(error, "datasets.simulated.settings")) from error
    sizes = {"train": train, "valid": valid, "test": test}
    frames = {"audio": audio_frames, "vision": vision_frames}
    if full_length:
        frames = dict.fromkeys(frames, FULL_LENGTH)
    models = _models(np.random.default_rng([seed, len(SPLITS)]))
    return {
        split: _split(split, sizes[split], [seed, i], models, frames, padding, irony)
        for i, split in enumerate(SPLITS)
    }


def write(path: Path, **settings: Any) -> None:
    """Pickle simulate(**settings) to a file: the same settings give the same bytes."""
    data = simulate(**settings)
    with open(path, "wb") as file:
        pickle.dump(data, file, protocol=4)


def read(path: Path, **_settings: Any) -> dict[str, Utterances]:
    """Read the output of write with the importer of real data."""
    return mmsa_pickle.read(path)


def fuse(
    text: Float[np.ndarray, " n"], audio: Float[np.ndarray, " n"], vision: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the multimodal sentiment, before rounding, of the three unimodal truths."""
    nonverbal = 0.4 * audio + 0.6 * vision
    text_weight = np.where(text * nonverbal >= 0, 0.6, 0.3)
    return text_weight * text + (1 - text_weight) * nonverbal


def _split(
    split: str,
    n: int,
    seed: list[int],
    models: "Mapping[str, FrameModel]",
    frames: Mapping[str, int],
    padding: Side,
    irony: float,
) -> dict[str, Any]:
    rng, *frame_rngs = (np.random.default_rng([*seed, stream]) for stream in range(3))
    video, clip = _videos(rng, n)
    texts, truths = _opinions(rng, video, irony)
    grid = np.where(rng.random(n) < 0.01, 6, 3)
    rounded = np.round(fuse(**truths) * grid) / grid
    labels = rounded.astype(np.float32) + np.float32(0)  # no -0.0
    words = np.array([len(text.split()) for text in texts])
    data: dict[str, Any] = {
        "raw_text": texts,
        "id": [f"{split}{v:05d}$_${c}" for v, c in zip(video, clip, strict=True)],
    }
    for (name, model), frame_rng in zip(models.items(), frame_rngs, strict=True):
        lengths = _lengths(frame_rng, words, frames[name])
        data[name] = model.frames(frame_rng, truths[name], video, lengths, frames[name], padding)
        data[f"{name}_lengths"] = lengths.tolist()
    classes = np.sign(labels).astype(np.int64) + 1
    return data | {
        "regression_labels": labels,
        "regression_labels_T": truths["text"].astype(np.float32),
        "regression_labels_A": truths["audio"].astype(np.float32),
        "regression_labels_V": truths["vision"].astype(np.float32),
        "classification_labels": classes,
        "annotations": [("Negative", "Neutral", "Positive")[c] for c in classes],
    }


def _videos(
    rng: np.random.Generator, n: int
) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
    """Return the video of each clip and its number there; MOSEI has 1 to 50 clips, median 5."""
    clips = np.maximum(1, np.round(rng.lognormal(np.log(5.5), 0.8, n))).astype(np.int64)
    video = np.repeat(np.arange(n), clips)[:n]
    return video, np.arange(n) - np.searchsorted(video, video)


def _opinions(
    rng: np.random.Generator, video: Integer[np.ndarray, " n"], irony: float
) -> tuple[list[str], dict[str, Float[np.ndarray, " n"]]]:
    """Return the text of each clip, and the unimodal truths by modality."""
    n = len(video)
    speaker = rng.normal(0, 0.6, n)[video]
    felt = 0.3 + speaker + rng.normal(0, 1.15, n)
    neutral = rng.random(n) < NEUTRAL
    verbal = np.where(rng.random(n) < irony, -felt, felt + rng.normal(0, 0.4, n))
    truths = {"audio": felt + rng.normal(0, 0.9, n), "vision": felt + rng.normal(0, 0.8, n)}
    for truth in truths.values():
        truth[neutral] = rng.normal(0.3, 0.4, neutral.sum())
        truth.clip(-STRONGEST, STRONGEST, out=truth)
    writer = Writer(rng)
    written = [
        writer.text(None if plain else float(target))
        for target, plain in zip(verbal, neutral, strict=True)
    ]
    truths["text"] = np.array([score for _, score in written])
    return [text for text, _ in written], truths


def _lengths(
    rng: np.random.Generator, words: Integer[np.ndarray, " n"], limit: int
) -> Integer[np.ndarray, " n"]:
    """Return the number of frames of each clip: some per word, at most limit."""
    pace = limit / 45 * rng.lognormal(0, 0.2, len(words))
    return np.clip(np.round(pace * words).astype(np.int64), 2, limit)


@dataclass(frozen=True)
class FrameModel:
    """Parameters of the simulated frames of one modality; every array is (d,)."""

    offset: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    level: Float[np.ndarray, " d"]
    ramp: Float[np.ndarray, " d"]
    event: Float[np.ndarray, " d"]
    level_noise: float
    order_noise: float
    damaged: float  # share of the clips with the defect
    defect: Literal["infinite", "blank"]

    def frames(
        self,
        rng: np.random.Generator,
        truth: Float[np.ndarray, " n"],
        video: Integer[np.ndarray, " n"],
        lengths: Integer[np.ndarray, " n"],
        limit: int,
        padding: Side,
    ) -> Float[np.ndarray, "n limit d"]:
        """Return the padded frames of all clips, with the defects of real data."""
        n, width = len(truth), len(self.scale)
        level = truth + rng.normal(0, self.level_noise, n)
        order = truth + rng.normal(0, self.order_noise, n)
        speaker = rng.normal(0, 0.3, (n, width))[video]
        # memory of zeros is allocated when written: padding costs none
        frames = np.zeros((n, limit, width))
        for i, t in enumerate(lengths.tolist()):
            signal = _autocorrelated(rng, t, width)
            signal += speaker[i] + level[i] * self.level
            signal += order[i] * np.outer(_ramp(t), self.ramp)
            signal += order[i] * np.outer(_event(rng, t), self.event)
            start = 0 if padding == "end" else limit - t
            frames[i, start : start + t] = self._damage(rng, self.offset + self.scale * signal)
        return frames

    def _damage(
        self, rng: np.random.Generator, frames: Float[np.ndarray, "t d"]
    ) -> Float[np.ndarray, "t d"]:
        if rng.random() < self.damaged:
            if self.defect == "infinite":
                frames[::5, rng.integers(frames.shape[1])] = -np.inf
            else:
                frames[:] = 0
        return frames


def _models(rng: np.random.Generator) -> dict[str, FrameModel]:
    def loadings(width: int, share: float, size: float) -> np.ndarray:
        chosen = rng.permutation(width) < share * width
        return chosen * rng.choice([-1, 1], width) * rng.uniform(0.5, 1, width) * size

    def model(width: int, powers: tuple[float, float], **noise: Any) -> FrameModel:
        scale = 10 ** rng.uniform(*powers, width)
        return FrameModel(
            offset=scale * rng.normal(0, 3, width),
            scale=scale,
            level=loadings(width, 0.5, 0.4),
            ramp=loadings(width, 0.3, 1.0),
            event=loadings(width, 0.15, 1.0),
            **noise,
        )

    audio = model(
        74, (-3.0, 3.0), level_noise=2.0, order_noise=1.0, damaged=0.005, defect="infinite"
    )
    # 153 of MOSEI's clips show no face
    vision = model(
        35, (-1.0, 1.0), level_noise=1.4, order_noise=0.8, damaged=153 / 22856, defect="blank"
    )
    return {"audio": audio, "vision": vision}


def _autocorrelated(rng: np.random.Generator, t: int, width: int) -> Float[np.ndarray, "t d"]:
    """Return AR(1) noise of standard deviation 1 and correlation 0.8 between neighbours."""
    noise = rng.normal(size=(t, width))
    noise[1:] *= 0.6  # sqrt(1 - 0.8 ** 2)
    for k in range(1, t):
        noise[k] += 0.8 * noise[k - 1]
    return noise


def _ramp(t: int) -> Float[np.ndarray, " t"]:
    return 2 * (np.arange(t) + 0.5) / t - 1


def _event(rng: np.random.Generator, t: int) -> Float[np.ndarray, " t"]:
    """Return a swing up, then down, at a random time; its mean over the frames is zero."""
    u = (np.arange(t) + 0.5) / t - rng.uniform(0.25, 0.75)
    swing = -u / 0.08 * np.exp(0.5 - 0.5 * (u / 0.08) ** 2)
    return swing - swing.mean()


class Writer:
    """Generates texts for a sentiment from the grammar, with the score of their words."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.grammar = _grammar()
        phrases = _phrases()
        self.phrases = [(kind, words) for kind, words, _ in phrases]
        self.scores = np.array([score for _, _, score in phrases])

    def text(self, target: float | None) -> tuple[str, float]:
        """Return a text with a score near the target, -3..3, and the score; None: no opinion."""
        rng, grammar = self.rng, self.grammar
        topic = self.pick(list(grammar["topics"]))
        budget = min(300, rng.lognormal(2.6, 0.65))  # words; MOSEI: median 17
        clauses: list[str] = []
        scores: list[float] = []
        if target is not None:
            count = 1 + min(rng.poisson(budget / 40), 4)
            for each in target + rng.normal(0, 0.5, count) * (count > 1):
                words, score = self.opinion(each, topic, budget)
                clauses.append(words)
                scores.append(score)
        elif budget < 5:
            clauses.append(self.fill(self.pick(grammar["greetings"]), topic))
        while sum(len(part.split()) for part in clauses) + 5 < budget or not clauses:
            filler = self.fill(self.pick(grammar["fillers"]), topic)
            clauses.insert(rng.integers(len(clauses) + 1), filler)
        text = self.join(clauses, budget)
        return text, float(np.mean(scores)) if scores else 0.0

    def opinion(self, target: float, topic: str, budget: float) -> tuple[str, float]:
        """Return a clause near the target, or two joined by "but", and the score."""
        if budget < 12 or self.rng.random() > 0.15:
            return self.clause(target, topic, short=budget < 7)
        first, first_score = self.clause(-np.sign(target) * self.rng.uniform(0.3, 2.0), topic)
        second, second_score = self.clause((4 * target - first_score) / 3, topic)
        text = first + self.pick(self.grammar["contrasts"]) + second
        return text, (first_score + 3 * second_score) / 4

    def clause(self, target: float, topic: str, short: bool = False) -> tuple[str, float]:
        """Return a clause with a phrase whose score is near the target, and that score."""
        distance = np.abs(self.scores - target)
        near = np.flatnonzero(distance <= max(0.15, np.partition(distance, 12)[12]))
        i = int(self.rng.choice(near))
        kind, words = self.phrases[i]
        pattern = self.pick(self.grammar[f"short_{kind}_clauses" if short else f"{kind}_clauses"])
        return self.fill(pattern, topic, phrase=words), float(self.scores[i])

    def fill(self, pattern: str, topic: str, **values: str) -> str:
        """Return the pattern with each {slot} replaced by a random word for it."""
        grammar = self.grammar
        slots = {
            "subject": grammar["topics"][topic],
            "person": grammar["people"],
            "time": grammar["times"],
            "place": grammar["places"],
            "number": grammar["numbers"],
        }
        values["topic"] = topic
        parts = re.split(r"\{(\w+)\}", pattern)
        parts[1::2] = [values.get(slot) or self.pick(slots[slot]) for slot in parts[1::2]]
        return "".join(parts)

    def join(self, parts: list[str], budget: float) -> str:
        """Join the parts with openings, interjections and links."""
        rng, grammar = self.rng, self.grammar
        text = parts[0]
        if budget >= 7 and rng.random() < 0.4:
            text = f"{self.pick(grammar['openings'])}, {text}"
        for part in parts[1:]:
            if rng.random() < 0.2:
                part = f"{self.pick(grammar['interjections'])}, {part}"
            text += self.pick(grammar["links"]) + part
        return re.sub(r"(^|\. )(\w)", lambda match: match[1] + match[2].upper(), text) + "."

    def pick(self, words: Sequence[str]) -> str:
        return words[int(self.rng.integers(len(words)))]


@cache
def _grammar() -> dict[str, Any]:
    file = resources.files("msabench.data.sources").joinpath("grammar.yaml")
    return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))


@cache
def _phrases() -> list[tuple[str, str, float]]:
    """Return every opinion of the grammar as (kind, words, score)."""
    grammar = _grammar()
    phrases = []
    for kind, opinions, modifiers, negations in (
        ("adjective", "adjectives", "modifiers", "negated_adjectives"),
        ("verb", "verbs", "verb_modifiers", "negated_verbs"),
    ):
        for opinion, strength in grammar[opinions].items():
            for modifier, factor in grammar[modifiers].items():
                score = float(np.clip(strength * factor, -STRONGEST, STRONGEST))
                phrases.append((kind, f"{modifier} {opinion}".strip(), score))
            for negation in grammar[negations]:
                phrases.append((kind, f"{negation} {opinion}", -strength / 2))
    return phrases
