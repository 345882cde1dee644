"""What a report says: every section in the order of the page.

`results` holds the sections of tables, `figures` what is drawn, `provenance` what all was made of.
"""

from collections.abc import Mapping, Sequence

from msabench.evaluation import cautions, clusters, literature, statistics
from msabench.evaluation.results import Results
from msabench.evaluation.tables import PUBLISHED, Rows, printed_name
from msabench.reporting.cells import one_seed
from msabench.reporting.content import missing_data, published
from msabench.reporting.content import results as sections
from msabench.reporting.document import LEAST_P, Document, Figure, Section, Title, printed

MEASURED = "Measured values are means over seeds ± their sample standard deviation."
BESIDE = (
    f"`report` is the figure of the report, measured on {PUBLISHED['data']}; `diff` is measured "
    f"minus report. {PUBLISHED['source']}."
)


def document(
    results: Results,
    figures: Mapping[str, Figure] | None = None,
    provenance: Sequence[Section] = (),
) -> Document:
    """Return the document of all results.

    figures: by the section that they belong to, or that they are alone.
    """
    beside = literature.has_report(results.plan)
    listed: dict[str, list[Section | str]] = {
        "Results": [sections.headline(results), sections.comparison(results)],
        "Tables of the report" if beside else "Tables": [
            sections.data_statistics(results),
            *(sections.report_table(results, number) for number in "2345"),
            "sweeps",
            sections.report_table(results, "6"),
            published.section(results),
        ],
        "The models side by side": ["learning", "predictions", "confusion"],
        "Modalities": [
            sections.ablation(results),
            sections.robustness(results),
            missing_data.section(results),
            sections.generated_labels(results),
        ],
        "Data": [sections.data_report(results)],
        "How it was made": [*provenance],
    }
    shown = {
        heading: [section for each in below for section in _with_figure(each, figures or {})]
        for heading, below in listed.items()
    }
    foreign = sections.foreign_data(results.plan)
    caveats = [f"{foreign}, and `diff` is no error of reproduction."] if foreign else []
    limits = (*cautions.of_data(results), *cautions.of_models(results))
    caveats += [f"**{sentence}**" for sentence in limits]
    return Document(
        Title("Models of multimodal sentiment analysis", detail=results.plan["title"]),
        verdict(results),
        [
            *caveats,
            *one_seed(results.plan["seeds"]),
            *clusters.notes({"test": results.tested}),
        ],
        f"{MEASURED} {BESIDE}" if beside else MEASURED,
        {part: below for part, below in shown.items() if below},
    )


def verdict(results: Results) -> str:
    """Say in one sentence which model is best on test, and what it beats by more than chance."""
    comparison = results.comparison["mae"]
    models = comparison["models"]
    if not models:
        return "No model has been measured."
    best = min(models, key=lambda name: models[name]["value"])
    text = f"{printed_name(best)} has the lowest MAE on test, {models[best]['value']:.3f}"
    if models[best]["low"] is None:
        return f"{text}; with so few videos no verdict on the differences is possible."
    interval = "{low:.3f} to {high:.3f}".format(**models[best])
    text += f" ({statistics.LEVEL:.0%} confidence interval {interval})"
    clauses = [_against_constant(results, best), *_against_others(comparison["pairs"], best)]
    return f"{text}{'; '.join(clauses)}."


def _against_constant(results: Results, best: str) -> str:
    """Say whether the best model is better than the better constant, by more than chance."""
    constant = cautions.better_constant(results)
    pair, mae = results.constants[constant][best], results.tables["6"][constant]["mae"]
    if not cautions.shown(pair):
        claim = ", but no difference to a constant is shown"
    elif pair["difference"] < 0:
        claim = " and beats a constant by more than chance"
    else:
        claim = ", but is worse than a constant by more than chance"
    name = cautions.CONSTANT_NAMES[constant]
    return f"{claim}: {name} has {mae:.3f} (p {printed(pair['p_holm'], 'p')}, Holm)"


def _against_others(pairs: Rows, best: str) -> list[str]:
    """Say which models the best one beats by more than chance, and which not."""
    others = {
        other: pair
        for names, pair in pairs.items()
        if best in names.split(" - ")
        for other in names.split(" - ")
        if other != best
    }
    beaten = {name: pair["p_holm"] for name, pair in others.items() if cautions.shown(pair)}
    alike = {name: pair["p_holm"] for name, pair in others.items() if name not in beaten}
    clauses = []
    if beaten:
        most = max(beaten.values())
        at = "at most " if len(beaten) > 1 and most >= LEAST_P else ""
        clauses.append(
            f"it beats {_joined([*beaten])} by more than chance (p {at}{printed(most, 'p')}, Holm)"
        )
    if alike:
        at = "at least " if len(alike) > 1 else ""
        least = min(alike.values())
        clauses.append(f"no difference to {_joined([*alike])} is shown (p {at}{least:.2f})")
    return clauses


def _with_figure(section: Section | str, figures: Mapping[str, Figure]) -> list[Section]:
    """Return a section with its figure above all else; none where there is nothing to show."""
    name = section if isinstance(section, str) else section.name
    figure = figures.get(name)
    if figure is None or not figure.finding:
        return [] if isinstance(section, str) or not section.blocks else [section]
    if isinstance(section, str):
        return [Section(name, figure.title, [figure])]
    return [section._replace(blocks=[figure, *section.blocks])]


def _joined(models: Sequence[str]) -> str:
    """Return the models' printed names as a sentence lists them."""
    *first, last = map(printed_name, models)
    return f"{', '.join(first)} and {last}" if first else last
