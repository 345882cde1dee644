"""Cautions: one sentence for each thing that limits what the results show."""

from collections.abc import Callable, Mapping

from msabench.evaluation import statistics
from msabench.evaluation.fits import LEAST_SPREAD
from msabench.evaluation.results import Results
from msabench.evaluation.tables import Row, printed_name

CONSTANT_NAMES = {
    "train_mean": "the mean of the training labels",
    "train_median": "the median of the training labels",
}


def of_models(results: Results) -> list[str]:
    """Return what limits all rows of Table 6."""
    return [*_not_beating_a_constant(results), *_nearly_constant(results)]


def better_constant(results: Results) -> str:
    """Return the name of the constant with the lower MAE on test."""
    table = results.tables["6"]
    return min(CONSTANT_NAMES, key=lambda name: table[name]["mae"])


def shown(pair: Row) -> bool:
    """Return whether a difference is more than chance. pair: see statistics.compare."""
    return pair["p_holm"] is not None and pair["p_holm"] < 1 - statistics.LEVEL


def _not_beating_a_constant(results: Results) -> list[str]:
    constant = better_constant(results)
    models = results.comparison["mae"]["models"]
    named = {
        name: f"{models[name]['value']:.3f}"
        for name, pair in results.constants[constant].items()
        if not (shown(pair) and pair["difference"] < 0)
    }
    if not named:
        return []
    mae = f"{results.tables['6'][constant]['mae']:.3f}"
    return [
        f"Not shown to beat a constant, {CONSTANT_NAMES[constant]} (MAE on test {mae}): "
        f"{_listed(named)}."
    ]


def _nearly_constant(results: Results) -> list[str]:
    named = _seeds(results, lambda fit: fit["spread"] is not None and fit["spread"] < LEAST_SPREAD)
    if not named:
        return []
    return [
        f"Predictions that hardly vary (their standard deviation on test is below {LEAST_SPREAD:g} "
        f"of that of the labels): {_listed(named)}."
    ]


def _seeds(results: Results, which: Callable[[Row], bool]) -> dict[str, str]:
    """Count by model of Table 6 the seeds of which something holds; of none, it is left out."""
    counts = {}
    for model in results.plan["models"]:
        fits = results.fits.get(model, {}).values()
        count = sum(map(which, fits))
        if count:
            counts[model] = f"{count} of {len(fits)} seeds"
    return counts


def _listed(named: Mapping[str, str]) -> str:
    return ", ".join(f"{printed_name(name)} ({what})" for name, what in named.items())
