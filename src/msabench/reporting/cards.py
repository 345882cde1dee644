"""Cards: what a trained model is, and what its data are, for those who would use them.

A model's card is made from what its training wrote (run.json), its predictions and the tables;
nothing here knows a model by name. Each card begins with the metadata that the Hugging Face hub
reads.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from msabench import params
from msabench.evaluation import cautions, clusters, statistics, tables
from msabench.evaluation.results import Results
from msabench.evaluation.tables import PUBLISHED, Row, Rows
from msabench.networks import encoders
from msabench.reporting import cells, markdown
from msabench.reporting.content import results as content
from msabench.reporting.content.provenance import stage_of
from msabench.reporting.document import Column, Table, row

SHOWN = ("utterances", "videos", "tokens", "audio_frames", "vision_frames")
NAME = Column("", "words")
TAGS = ["msabench", "multimodal-sentiment-analysis"]
# The hub's names of metrics, by how ours begin.
HUB_METRICS = {"mae": "mae", "corr": "pearsonr", "acc": "accuracy", "f1": "f1"}


class Data(NamedTuple):
    """What all cards say of the data.

    facts: the plan of the cards.
    """

    results: Results
    facts: Mapping[str, Any]

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan of the tables."""
        return self.results.plan

    @property
    def splits(self) -> Rows:
        """Table 1."""
        return self.results.tables["1"]

    @property
    def shared(self) -> dict[str, Any]:
        """What the templates of both cards show."""
        scale = tables.scale_of(self.plan)
        neutral = "no neutral point" if scale.neutral is None else f"neutral at {scale.neutral:g}"
        shown = [c for c in SHOWN if any(split[c] is not None for split in self.splits.values())]
        rows = [row(name, *(split[c] for c in shown)) for name, split in self.splits.items()]
        return {
            "title": self.plan["title"],
            "foreign": content.foreign_data(self.plan),
            "corpus": self.facts["corpus"],
            "scale": f"{scale.low:g} to {scale.high:g}, {neutral}",
            "splits": Table([NAME, *map(Column, shown)], rows),
            "drawn": " ".join(content.drawn_split(self.results)),
            "unknown": (
                "Where these data come from, who labelled them and on what terms is not known "
                f"here: `datasets.{self.facts['dataset']}.corpus` in params.yaml names no entry of "
                "`src/msabench/data/corpora.json`."
            ),
        }

    def of_corpus(self, key: str) -> str | None:
        """Return what is known of the corpus; None where there is none."""
        return self.facts["corpus"][key] if self.facts["corpus"] else None


def model_card(
    run: Mapping[str, Any],
    measured: Row,
    all_seeds: Row,
    interval: Row | None,
    data: Data,
) -> str:
    """Return the card of one run and seed.

    run: its run.json. measured: its metrics, as in seeds.json. all_seeds: their means on test.
    interval: the row of the MAE in `statistics.compare`, where there is one; low and high are None
    where they are undefined.
    """
    metrics = [
        row(metric, measured[f"valid_{metric}"], value, cells.measured(all_seeds, metric))
        for metric, value in _on_test(measured).items()
    ]
    settings = [
        row(name, value if isinstance(value, str) else json.dumps(value))
        for name, value in params.flat(run).items()
    ]
    name, test = f"{run['run']}-{run['seed']}", data.results.tested
    return _template("model_card.md.jinja").render(
        **data.shared,
        metadata=_model_metadata(run, _on_test(measured), data).to_yaml(),
        run=run,
        name=name,
        stage=stage_of(data.plan, name),
        of_report=run["model"] in PUBLISHED["tables"]["6"]["rows"],
        source=PUBLISHED["source"],
        # Of data/prepared/sha256.json, whose content it is.
        data_digest=hashlib.sha256((json.dumps(run["data"], indent=2) + "\n").encode()).hexdigest(),
        results=Table([NAME, *map(Column, ("valid", "test", "test, all seeds"))], metrics),
        folds=[name for name in data.splits if name != "all"] if "fold" in run else [],
        utterances=test["utterances"],
        interval=interval,
        level=f"{statistics.LEVEL:.0%}",
        few_videos=clusters.notes({"test": test}),
        fit=data.results.fits[run["run"]][str(run["seed"])],
        cautions=cautions.of_run(data.results, run["run"], run["seed"]),
        dashes=cells.why_dashes([measured, all_seeds], data.plan),
        encoder=_published(run),
        settings=Table([Column("setting", "words"), Column("value", "words")], settings),
    )


def data_card(data: Data) -> str:
    """Return the card of the data."""
    metadata = DatasetCardData(
        language=data.of_corpus("language_code"),
        license=data.of_corpus("license"),
        pretty_name=data.plan["title"],
        tags=TAGS,
    )
    return _template("data_card.md.jinja").render(
        **data.shared,
        metadata=metadata.to_yaml(),
        data=data.facts,
        report=markdown.section(content.data_report(data.results), level=2),
        all_splits=data.splits["all"],
        cautions=cautions.of_data(data.results),
    )


def _published(run: Mapping[str, Any]) -> encoders.Published | None:
    return encoders.published(run["encoder"]["name"], run["encoder"].get("published"))


def _on_test(measured: Row) -> Row:
    return {name: value for name, value in measured.items() if not name.startswith("valid_")}


def _model_metadata(run: Mapping[str, Any], test: Row, data: Data) -> ModelCardData:
    """Return what the hub shows and searches: the results of this seed on test among it."""
    dataset, known = data.facts["dataset"], _published(run)
    results = [
        EvalResult(
            task_type="multimodal-sentiment-analysis",
            dataset_type=dataset,
            dataset_name=data.plan["title"],
            dataset_split="test",
            metric_type=HUB_METRICS[metric.partition("_")[0]],
            metric_name=metric,
            metric_value=round(value, 4),
        )
        for metric, value in test.items()
        if value is not None
    ]
    return ModelCardData(
        model_name=f"{run['run']}-{run['seed']}",
        language=data.of_corpus("language_code"),
        license=data.of_corpus("license"),
        library_name="msabench",
        tags=[*TAGS, *run["modalities"]],
        datasets=[dataset],
        base_model=run["encoder"]["name"] if known and "text" in run["modalities"] else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)),
        eval_results=results,
    )


@cache
def _template(name: str) -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"table": markdown.table, "json": json.dumps}
    return environment.get_template(name)
