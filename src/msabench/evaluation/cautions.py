"""Cautions: one sentence for each thing that limits what the results show."""

import math
from collections.abc import Mapping, Sequence

from msabench.evaluation import statistics
from msabench.evaluation.fits import LEAST_SPREAD, at_limit
from msabench.evaluation.results import Results
from msabench.evaluation.tables import Row, largest_subset, printed_name
from msabench.utterances import MODALITIES

CONSTANT_NAMES = {
    "train_mean": "the mean of the training labels",
    "train_median": "the median of the training labels",
}


# A model's Corr on validation is contaminated if it is above that on test by more than this and by
# more than so many standard errors (Fisher's z, over utterances). In honest data (MOSI, MOSEI, POM,
# the simulated) a run had .07 and 1.6 at most; where the vision of train and valid was made with
# their labels (MOSI's old split), every run had .11 and 3.4 at least.
CORR_MARGIN, CORR_ERRORS = 0.1, 3.0
MISSING = 0.1  # of the utterances of a split: with more, the results are of a part of the data


def of_data(results: Results) -> list[str]:
    """Return what limits every result on these data."""
    splits = {name: row for name, row in results.tables["1"].items() if name != "all"}
    sentences = [*results.leaks]
    for modality in MODALITIES:
        missing = {name: row.get(f"{modality}_missing", 0) for name, row in splits.items()}
        if any(missing[name] > MISSING * row["utterances"] for name, row in splits.items()):
            counts = (f"{missing[n]} of {row['utterances']} of {n}" for n, row in splits.items())
            sentences.append(
                f"{modality.capitalize()} is missing in many utterances ({', '.join(counts)}): "
                "there models read the mean frame of train in its place."
            )
    return sentences


def of_models(results: Results) -> list[str]:
    """Return what limits all rows of Table 6."""
    named = _not_beating(results)
    constants = [f"Not shown to beat {_constant(results)}: {_listed(named)}."] if named else []
    return [*constants, *_nearly_constant(results), *_of_validation(results)]


def of_run(results: Results, run: str, seed: int) -> list[str]:
    """Return what limits one run: its data, its model in Table 6, and how it ended."""
    fit = results.fits[run][str(seed)]
    sentences = [*of_data(results), *_of_validation(results)]
    if run in _not_beating(results):
        sentences.append(f"Over all seeds it is not shown to beat {_constant(results)}.")
    if fit["spread"] is not None and fit["spread"] < LEAST_SPREAD:
        sentences.append(
            f"Its predictions hardly vary: their standard deviation on test is {fit['spread']:.2f} "
            "of that of the labels."
        )
    if at_limit(fit):
        sentences.append(
            f"It was best in the last epoch that `epochs: {fit['epochs']}` permits: more epochs "
            "may be better."
        )
    return sentences


def of_epochs(results: Results, number: str) -> list[str]:
    """Name the rows of a table, 2 to 6, whose number of epochs may have been too small."""
    named = {}
    for row, folders in results.rows[number].items():
        fits = _fits(results, folders)
        count = sum(map(at_limit, fits))
        if count:
            named[row] = f"`epochs: {fits[0]['epochs']}`, {count} of {len(fits)} seeds"
    if not named:
        return []
    return [
        "Best in the last epoch that was permitted, so that more epochs may be better: "
        f"{_listed(named)}."
    ]


def left_out(results: Results) -> list[str]:
    """Name the models of Table 6 that do not read all modalities that the data have."""
    have = results.plan["subsets"][all_modalities(results)]
    named = {}
    for model, read in modalities_read(results).items():
        if missing := [name for name in have if name not in read]:
            named[model] = f"reads {' and '.join(read)} alone, without {' and '.join(missing)}"
    if not named:
        return []
    return [f"By their settings some models leave a modality out: {_listed(named)}."]


def modalities_read(results: Results) -> dict[str, list[str]]:
    """Return what each model of Table 6 reads: those of its modalities that the data have."""
    have = results.plan["subsets"][all_modalities(results)]
    return {
        model: [name for name in have if name in own]
        for model, own in results.plan["modalities"].items()
    }


def all_modalities(results: Results) -> str:
    """Name the subset of all modalities that the data have."""
    table1 = results.tables["1"]["all"]
    columns = {"text": "tokens", "audio": "audio_frames", "vision": "vision_frames"}
    have = {name for name, column in columns.items() if table1[column] is not None}
    subsets = results.plan["subsets"]
    return largest_subset(results.plan, (s for s, names in subsets.items() if have >= {*names}))


def of_modalities(results: Results) -> list[str]:
    """Name the smaller subsets with which a model of the ablation is as good, or better."""
    full = all_modalities(results)
    named: dict[str, list[str]] = {}
    for model, part in results.ablation.items():
        for pair, tested in part["pairs"].items():
            subset = pair.removesuffix(f" - {full}")
            fewer, whole = (part["rows"][name]["valid_mae"] for name in (subset, full))
            claims = {
                f"Better on test than {full} by more than chance": shown(tested)
                and tested["difference"] < 0,
                f"Not shown to be worse on test than {full}": tested["p_holm"] is not None
                and not shown(tested),
                f"Lower valid_mae than {full}": None not in (fewer, whole) and fewer < whole,
            }
            for claim, holds in claims.items():
                named.setdefault(claim, []).extend([f"{subset} ({printed_name(model)})"] * holds)
    return [f"{claim}: {', '.join(subsets)}." for claim, subsets in named.items() if subsets]


def better_constant(results: Results) -> str:
    """Return the name of the constant with the lower MAE on test."""
    table = results.tables["6"]
    return min(CONSTANT_NAMES, key=lambda name: table[name]["mae"])


def shown(pair: Row) -> bool:
    """Return whether a difference is more than chance. pair: see statistics.compare."""
    return pair["p_holm"] is not None and pair["p_holm"] < 1 - statistics.LEVEL


def _not_beating(results: Results) -> dict[str, str]:
    """Return the MAE of each model that is not shown to beat the better constant."""
    models = results.comparison["mae"]["models"]
    return {
        name: f"{models[name]['value']:.3f}"
        for name, pair in results.constants.get(better_constant(results), {}).items()
        if not (shown(pair) and pair["difference"] < 0)
    }


def _constant(results: Results) -> str:
    name = better_constant(results)
    mae = results.tables["6"][name]["mae"]
    return f"a constant, {CONSTANT_NAMES[name]} (MAE on test {mae:.3f})"


def _nearly_constant(results: Results) -> list[str]:
    named = {}
    for model, folders in results.rows["6"].items():
        spreads = [fit["spread"] for fit in _fits(results, folders)]
        count = sum(spread is not None and spread < LEAST_SPREAD for spread in spreads)
        if count:
            named[model] = f"{count} of {len(spreads)} seeds"
    if not named:
        return []
    return [
        f"Predictions that hardly vary (their standard deviation on test is below {LEAST_SPREAD:g} "
        f"of that of the labels): {_listed(named)}."
    ]


def _of_validation(results: Results) -> list[str]:
    """Say where validation is so unlike test that what it chose cannot be trusted."""
    table = {m: results.tables["6"][m] for m in results.comparison["mae"]["models"]}
    table = {model: row for model, row in table.items() if row["valid_mae"] is not None}
    contaminated = {
        model: f"{row['valid_corr']:.2f} and {row['corr']:.2f}"
        for model, row in table.items()
        if _falls(row["valid_corr"], row["corr"], results.tables["1"])
    }
    sentences = []
    if contaminated:
        sentences.append(f"Corr on validation is far above that on test: {_listed(contaminated)}.")
    if len(table) > 2:
        best = min(table, key=lambda model: table[model]["valid_mae"])
        worst = max(table, key=lambda model: table[model]["mae"])
        pairs = results.comparison["mae"]["pairs"]
        beaten = any(shown(pair) for names, pair in pairs.items() if best in names.split(" - "))
        if best == worst and beaten:
            sentences.append(
                f"{printed_name(best)} has the lowest MAE of all models on validation "
                f"({table[best]['valid_mae']:.3f}) and the highest on test "
                f"({table[best]['mae']:.3f}), by more than chance."
            )
    if sentences:
        sentences.append(
            "So what was chosen on validation (epochs, settings, models) may be chosen wrongly."
        )
    return [" ".join(sentences)] if sentences else []


def _falls(valid: float | None, test: float | None, splits: Mapping[str, Row]) -> bool:
    """Return whether Corr falls from validation to test as it does where labels leaked."""
    sizes = [(splits.get(name) or splits["all"])["utterances"] for name in ("valid", "test")]
    if valid is None or test is None or min(sizes) <= 3 or max(abs(valid), abs(test)) == 1:
        return False
    error = math.sqrt(sum(1 / (size - 3) for size in sizes))
    z = (math.atanh(valid) - math.atanh(test)) / error
    return valid - test > CORR_MARGIN and z > CORR_ERRORS


def _fits(results: Results, folders: Sequence[str]) -> list[Row]:
    """Return how the runs of these folders ended; of one that failed nothing is known."""
    names = (folder.rpartition("-") for folder in folders)
    known = (results.fits.get(run, {}).get(seed) for run, _, seed in names)
    return [fit for fit in known if fit is not None]


def _listed(named: Mapping[str, str]) -> str:
    return ", ".join(f"{printed_name(name)} ({what})" for name, what in named.items())
