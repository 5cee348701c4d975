"""Scoring: completions and predictions from elsewhere, and reports of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from spacer_lib.artifacts import PROJECT_ROOT, sole_writer
from spacer_lib.cli.app import AcceptEdited, Benchmark, command, extra
from spacer_lib.cli.choices import (
    BENCHMARKS,
    PRESETS,
    RULES,
    check_choice,
    check_exists,
    names_in,
    one_of,
)
from spacer_lib.cli.servers import (
    FallbackEndpoint,
    FallbackKey,
    FallbackModel,
    fallback_backend,
)
from spacer_lib.errors import SpacerError
from spacer_lib.rows import Prediction, Question


@extra(
    "spacer extras reward --items items.jsonl --completions made.jsonl --preset ours"
)
def reward(
    items: Annotated[Path, typer.Option(help="Questions, JSON lines.")],
    completions: Annotated[
        Path, typer.Option(help="JSON lines with the keys id and completion.")
    ],
    preset: Annotated[
        str, typer.Option(metavar="NAME", help=f"Reward settings: {one_of(PRESETS)}.")
    ] = "ours",
) -> dict[str, Any]:
    """Score completions from any source, component by component."""
    from spacer_lib.rewards.config import get_preset
    from spacer_lib.rewards.files import score_files

    config = get_preset(preset)
    scored, unanswered, counted = score_files(items, completions, config)
    kinds = {kind: [b for _, k, b in scored if k == kind] for _, kind, _ in scored}
    columns = (*config.components, "total")
    widths = [(name, max(9, len(name) + 2)) for name in columns]
    print(f"{preset:18}{'rows':>6}" + "".join(f"{n:>{w}}" for n, w in widths))
    for kind, part in {**kinds, "all": [b for _, _, b in scored]}.items():
        means = [
            sum(getattr(b, name) or 0.0 for b in part) / max(len(part), 1)
            for name in columns
        ]
        print(
            f"{kind:18}{len(part):>6}"
            + "".join(
                f"{mean:>{w}.3f}" for mean, (_, w) in zip(means, widths, strict=True)
            )
        )
    if config.length_window and counted < len(scored):
        print(
            f"{len(scored) - counted} completions without completion_tokens: no length "
            "bonus for them (words are not tokens)"
        )
    if unanswered:
        named = ", ".join(map(str, unanswered[:5]))
        more = " ..." if len(unanswered) > 5 else ""
        print(f"{len(unanswered)} items without a completion: {named}{more}")
    rows = []
    for key, _, b in scored:
        failures = [b.answer_failure, b.failure]
        if config.map_gate != "off":
            failures.append(b.map_failure)
        rows.append(
            {
                "id": key,
                "total": b.total,
                "components": {
                    name: getattr(b, name) or 0.0 for name in config.components
                },
                "failures": [f for f in dict.fromkeys(failures) if f],
                "reasons": b.reasons,
            }
        )
    return {"preset": preset, "rows": rows, "unanswered": unanswered}


@command(
    "spacer score --benchmark vsi --data VSI-Bench --predictions log.jsonl "
    "--extraction official"
)
def score(
    benchmark: Benchmark,
    predictions: Annotated[
        Path,
        typer.Option(
            help="File of this project, of lmms-eval, VLMEvalKit or SpaceR-Eval."
        ),
    ],
    data: Annotated[
        Optional[Path], typer.Option(help="The benchmark's folder or file.")
    ] = None,
    extraction: Annotated[
        Optional[str],
        typer.Option(
            metavar="RULE",
            help=f"Reading rule: {one_of(RULES)}.",
            show_default="strict, or the profile's",
        ),
    ] = None,
    profile: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="Read and average as a published system: "
            f"{one_of(names_in('profiles'))}, or a YAML file.",
        ),
    ] = None,
    column: Annotated[
        Optional[str],
        typer.Option(metavar="prediction=NAME", help="Column of the raw output."),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="Also write a run's folder, for `report` and `extras explain-gap`."
        ),
    ] = None,
    audit: Annotated[
        bool, typer.Option(help="Compare the scores of all reading rules.")
    ] = False,
    accept_edited: AcceptEdited = False,
    fallback_endpoint: FallbackEndpoint = None,
    fallback_model: FallbackModel = None,
    fallback_key_variable: FallbackKey = "OPENAI_API_KEY",
) -> dict[str, Any]:
    """Score predictions made elsewhere, with intervals over rooms or videos.

    With a fallback server, what the rule cannot read is read by that model. Its answers
    count, and its replies are kept in PREDICTIONS.fallback.jsonl.
    """
    if extraction is not None:
        check_choice("extraction", extraction, RULES, "cli.unknown-rule")
    judge = fallback_backend(fallback_endpoint, fallback_model, fallback_key_variable)
    check_exists(predictions, "predictions")
    key, _, output = (column or "").partition("=")
    if column is not None and (key != "prediction" or not output):
        raise SpacerError(
            "--column",
            kind="cli.invalid-column",
            got=repr(column),
            expected="prediction=NAME",
        )
    from spacer_lib.benchmarks import named, rules_of

    chosen = named(benchmark)
    rules = rules_of(chosen)
    system = None
    if profile:
        from spacer_lib.evaluation.profiles import load_profile

        system = load_profile(profile)
        extraction = extraction or system.part(chosen.name).extraction
    extraction = extraction or "strict"
    from spacer_lib.evaluation.foreign import edits_of, gather
    from spacer_lib.evaluation.predictions import record
    from spacer_lib.evaluation.statistics import intervals, summarize, totals

    rows, answers = gather(
        chosen, predictions, data, output or None, accept_edited=accept_edited
    )
    edits = edits_of(predictions)
    if edits:
        print(f"edited after it was written, and accepted: {'; '.join(edits)}")
    records = [
        record(row, answer.text, rules[extraction], failure=answer.failure)
        for row, answer in zip(rows, answers, strict=True)
    ]
    if judge is not None:
        from spacer_lib.evaluation.fallback import read_again

        said = predictions.parent / f"{predictions.name}.fallback.jsonl"
        with sole_writer(said):
            records = read_again(records, rows, judge, said, mixed=True)
        extraction += "+fallback"
    table, result = summarize(records), totals(records, chosen)
    print(f"{chosen.title}, extraction {extraction}; * is its published aggregate")
    columns = f"{'rows':>6}{'score':>7}{'95% interval':>16}{'wrong':>7}{'unread':>8}"
    print(f"{'':28}{columns}")
    for line in table[table["level"].isin(("kind", "macro", "overall"))].itertuples():
        name = "micro" if line.level == "overall" else line.name
        name += "*" * (line.level == chosen.overall.replace("micro", "overall"))
        interval = f"[{line.score_low:.3f}, {line.score_high:.3f}]"
        print(
            f"{name:28}{line.n:>6}{line.score:>7.3f}{interval:>16}{line.wrong:>7}"
            f"{line.failures:>8}"
        )
    for name, value in result["released"].items():
        print(f"{f'released code, {name}':34}{value:>7.3f}")
    if system is not None:
        result["profile"] = _averaged(records, system, chosen)
        average = result["profile"]
        print(
            f"{system.title + ', ' + average['aggregate']:34}{average['overall']:>7.3f}"
        )
    for reason, count in result["failures"].items():
        print(f"unread, {reason:20}{count:>6}")
    types = table[table["level"] == "question_type"]
    ids = [row.get("published_id", row["id"]) for row in rows]
    unanswered = [key for key, a in zip(ids, answers, strict=True) if a.text is None]
    if unanswered:
        more = " ..." if len(unanswered) > 5 else ""
        some = ", ".join(map(str, unanswered[:5]))
        print(f"{len(unanswered)} without a prediction: {some}{more}")
    paths = {}
    if out is not None:
        from spacer_lib.evaluation.foreign import write_run

        written = write_run(out, records, chosen, extraction, predictions, profile)
        paths = {"paths": written}
    return {
        "rows": [
            {
                "id": key,
                "score": made["score"],
                "answer": made["extracted"],
                "failure": made["failure"],
            }
            for key, made in zip(ids, records, strict=True)
        ],
        **result,
        "question_types": dict(zip(types["name"], types["score"], strict=True)),
        "intervals": intervals(table),
        "benchmark": chosen.name,
        "extraction": extraction,
        "unanswered": unanswered,
        **({"accepted_edits": edits} if edits else {}),
        **paths,
        **(_audited(rows, answers, chosen) if audit else {}),
    }


def _averaged(
    records: Sequence[Prediction], system: Any, benchmark: Any
) -> dict[str, Any]:
    """The score under a profile's aggregate."""
    from spacer_lib.evaluation.aggregates import row_weights

    aggregate = system.aggregate(benchmark.name)
    types = [record["question_type"] for record in records]
    weights = row_weights(aggregate, types, benchmark)
    scores = [record["score"] for record in records]
    overall = float((weights * scores).mean())
    return {"title": system.title, "aggregate": aggregate, "overall": overall}


def _audited(
    rows: list[Question], answers: list[Any], benchmark: Any, examples: int = 3
) -> dict[str, Any]:
    """Print the extraction audit; ``{"audit": …}`` for the result."""
    from spacer_lib.evaluation.audit import REFERENCE, audit

    found = audit(rows, answers, benchmark)
    counts = found.table[found.table["level"] == "overall"].set_index("rule")
    scores = found.table.pivot(index="name", columns="rule", values="score")
    scores = scores.loc[found.table["name"].unique(), counts.index]
    scores = scores.rename(index={"overall": "micro"})
    print("\nthe same outputs under each rule")
    print(scores.round(3).rename_axis(None).rename_axis(None, axis=1).to_string())
    print(f"\n{'':20}{'read':>6}{'wrong':>7}{'unread':>8}  alike {REFERENCE}")
    for rule, line in counts.iterrows():
        alike = found.agreement.loc[REFERENCE, rule]
        print(
            f"{rule:20}{line.answered:>6}{line.wrong:>7}{line.unread:>8}{alike:>14.1%}"
        )
    hows = found.readings.groupby(["rule", "how"], sort=False)["n"].sum()
    for (rule, how), count in hows.items():
        print(f"{rule + ', read as':34}{how:16}{count:>6}")
    shown = []
    for rule in counts.index:
        cases = [case for case in found.disagreements if case["rule"] == rule]
        shown += cases[:20]
        for case in cases[:examples]:
            text = case["prediction"]
            text = repr(text if len(text) <= 60 else f"{text[:40]} … {text[-17:]}")
            print(
                f"{case['id']} {text}, truth {case['truth']}: {REFERENCE} "
                f"{case['reference_extracted'] or case['reference_failure']} "
                f"({case['reference_score']:.1f}), {rule} "
                f"{case['rule_extracted'] or case['rule_failure']} "
                f"({case['rule_score']:.1f})"
            )
    return {
        "audit": {
            "table": found.table.astype(object)
            .where(found.table.notna(), None)
            .to_dict("records"),
            "reasons": found.reasons.to_dict("records"),
            "readings": found.readings.to_dict("records"),
            "agreement": found.agreement.to_dict(),
            "examples": shown,
            "disagreements": {
                rule: sum(case["rule"] == rule for case in found.disagreements)
                for rule in counts.index
            },
        }
    }


@command("spacer report runs/vsi runs/vsi_majority --out runs/report")
def report(
    runs: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="[NAME=]RUN ...", help="Folders of `spacer evaluate`."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Output folder.", show_default="runs/report")
    ] = PROJECT_ROOT / "runs" / "report",
    reference: Annotated[
        Optional[str],
        typer.Option(metavar="RUN", help="Run that the others are compared with."),
    ] = None,
    pool: Annotated[
        list[str],
        typer.Option(metavar="NAME=RUN,RUN", help="Seeds to report as one run."),
    ] = [],
    benchmark: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help=f"Benchmark of runs without evaluation.json: {one_of(BENCHMARKS)}.",
        ),
    ] = None,
    published: Annotated[
        list[str],
        typer.Option(
            metavar="TABLE", help="Published table to add, such as spacer_table1."
        ),
    ] = [],
    accept_edited: AcceptEdited = False,
) -> dict[str, Any]:
    """Write tables (Markdown, LaTeX, CSV) and figures of runs on one benchmark."""
    if not (runs or pool or reference):
        raise _no_runs()
    from spacer_lib.evaluation import report as reports

    def read(text: str) -> Any:
        name, sign, folder = text.partition("=")
        plain = not sign or Path(text).exists()
        place = (text, None) if plain else (folder, name)
        return reports.read_run(*place, accept_edited=accept_edited)

    tables = _wide(published) if published else None
    entries = [read(text) for text in runs or ()]
    if reference and Path(reference).exists():
        base = reports.read_run(reference, accept_edited=accept_edited)
        reference = base.name
        entries = [base, *(run for run in entries if run.name != reference)]
    for text in pool:
        name, _, members = text.partition("=")
        seeds = [read(member) for member in members.split(",") if member]
        if not seeds:
            raise SpacerError(
                "--pool", kind="cli.no-pool", got=text, expected="NAME=RUN,RUN"
            )
        entries.append(reports.pool_runs(name, seeds))
    if not entries:
        raise _no_runs()
    from spacer_lib.pictures.figures import report_figures

    made = reports.make_report(
        entries,
        benchmark=benchmark,
        reference=reference,
        published=tables,
    )
    with sole_writer(out):
        paths = report_figures(made, out)
        paths += reports.write_report(made, out, paths)
    print((out / "report.md").read_text(encoding="utf-8"))
    print(f"{out}: {len(paths)} files")
    return {
        "benchmark": made.benchmark.name,
        "reference": reference,
        "runs": {
            run.name: {"floor": run.floor, "seeds": len(run.parts)} for run in entries
        },
        "tables": {
            name: table.tidy.astype(object)
            .where(table.tidy.notna(), None)
            .to_dict("records")
            for name, table in made.tables.items()
        },
        "paths": paths,
    }


@command("spacer browse runs/tiny --out runs/tiny/browse.html")
def browse(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Folder of `spacer train` or `spacer evaluate`."
        ),
    ],
    out: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="The page; RUN/browse.html without it."),
    ] = None,
    data: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE",
            help="Questions of an evaluation, for their videos and true maps.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most answers of the page.")] = 200,
) -> dict[str, Any]:
    """Write one HTML page of a run's answers: frames, thoughts, maps, rewards."""
    check_exists(run, "run")
    from spacer_lib.pictures.browse import KINDS, write_page

    page = write_page(run, out or run / "browse.html", data=data, limit=limit)
    print(f"{page.path}: {page.shown} of {page.total} answers")
    for kind, count in page.kinds.items():
        print(f"{count:>6}  {KINDS[kind]}")
    return {
        "page": page.path,
        "shown": page.shown,
        "total": page.total,
        "kinds": page.kinds,
    }


@extra("spacer extras explain-gap runs/vsi --profile spacer --profile lmms_eval")
def explain_gap(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_A [RUN_B]", help="Folders of `spacer evaluate`, one or two."
        ),
    ],
    profile: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="How both are read and averaged, or given twice, how each is: "
            f"{one_of(names_in('profiles'))}. Without it as they were.",
        ),
    ] = [],
    data: Annotated[
        Optional[Path], typer.Option(help="The benchmark's folder or file.")
    ] = None,
    ask: Annotated[
        bool, typer.Option(help="Ask --model again, to separate settings that differ.")
    ] = False,
    model: Annotated[
        Optional[str], typer.Option(help="Checkpoint that made both runs.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Output folder.", show_default="runs/gap")
    ] = PROJECT_ROOT / "runs" / "gap",
    accept_edited: AcceptEdited = False,
) -> dict[str, Any]:
    """Split the difference of two scores into shares of what was set differently."""
    if len(runs) > 2 or len(profile) > 2 or len(runs) + len(profile) < 2:
        raise SpacerError(
            "runs and profiles",
            kind="cli.no-gap",
            got=f"{len(runs)} runs, {len(profile)} profiles",
            expected="two runs, or one run and two profiles",
        )
    if ask and not (model and data):
        raise SpacerError(
            "--ask",
            kind="cli.no-backend",
            got="no --model or no --data",
            expected="both",
        )
    from spacer_lib.benchmarks import named
    from spacer_lib.evaluation import gaps
    from spacer_lib.evaluation.report import read_run

    ends = (runs[0], runs[-1])
    read = [read_run(path, accept_edited=accept_edited) for path in ends]
    edits = dict.fromkeys(one for run in read for one in run.edited)
    systems = [profile[0], profile[-1]] if profile else [None, None]
    first, last = (
        gaps.make_side(run, system) for run, system in zip(read, systems, strict=True)
    )
    bench = named(read[0].about["benchmark"])
    rows = bench.read(data) if data else None
    between = None
    if ask:
        from spacer_lib.evaluation.backends import LocalModel, load

        loaded = LocalModel(*load(str(model)), name=str(model))
        asked = {made["id"] for made in read[0].records}
        wanted = [row for row in rows or () if row["id"] in asked]
        between = gaps.ask_again(first, last, wanted, loaded, out / "between")
    gap = gaps.explain(first, last, rows=rows, between=between)
    for edit in edits:
        print(f"edited after it was written, and accepted: {edit}")
    print(gaps.gap_text(gap, first, last))
    with sole_writer(out):
        paths = _gap_files(gap, first, last, out)
    print(f"{out}: {', '.join(path.name for path in paths)}")
    record = gaps.gap_record(gap, first, last)
    return {**record, "accepted_edits": list(edits), "paths": paths}


def _gap_files(gap: Any, first: Any, last: Any, folder: Path) -> list[Path]:
    """gap.json, gap.csv and gap.png."""
    import matplotlib.pyplot as plt

    from spacer_lib.artifacts import atomic_path, write_json, write_text
    from spacer_lib.evaluation.gaps import gap_record
    from spacer_lib.markup import csv_text
    from spacer_lib.pictures.evaluation_plots import gap_waterfall
    from spacer_lib.pictures.style import use_house_style

    paths = [folder / f"gap.{kind}" for kind in ("json", "csv", "png")]
    write_json(paths[0], gap_record(gap, first, last))
    write_text(paths[1], csv_text(gap.table))
    use_house_style()
    figure, ax = plt.subplots(figsize=(1.6 * len(gap.table) + 2, 3.2))
    gap_waterfall(gap, ax)
    with atomic_path(paths[2]) as temporary:
        figure.savefig(temporary, bbox_inches="tight")
    plt.close(figure)
    return paths


def _no_runs() -> SpacerError:
    return SpacerError(
        "runs", kind="cli.no-runs", got="none", expected="at least one folder"
    )


def _wide(names: list[str]) -> dict[str, Any]:
    """Published tables by name."""
    from spacer_lib import published

    return {name: published.wide(name) for name in names}
