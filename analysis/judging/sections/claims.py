"""What the test split supports, label by label, and the rules by which that was decided."""

from __future__ import annotations

from analysis.judging.claims import claimed, rules, unclaimed
from analysis.judging.judgement import Judgement
from analysis.number_format import counted
from analysis.section import Folded, Section, Terms, Words
from cohort.ledger import described
from search_spaces.publication import PUBLICATION, PUBLISHED_NAME

TITLE = "What may be claimed"


def run(judgement: Judgement) -> Section:
    spoken = claimed(judgement.claims)
    entries = [(claim.name or "on average", claim.score, claim.conclusion) for claim in spoken]
    kinds = ["best" if not claim.label else "" for claim in spoken]
    if silent := unclaimed(judgement.claims):
        entries.append(("no claim", "", f"{silent}."))
        kinds.append("quiet")
    published = f"{PUBLISHED_NAME} ({PUBLICATION})"
    of_trial = judgement.answer.origin.trial is not None
    chosen = "the configuration chosen on validation" if of_trial else "the final model"
    about = f"About {judgement.answer.name}, {chosen}, "
    if judgement.best_is_published:
        about += f"which is {published} itself, "
    about += "by rules that were written before any test score was seen."
    if judgement.published and not judgement.best_is_published:
        about += f" The row {judgement.names[judgement.published]} is {published}."
    if not judgement.claim_possible:
        about += (
            " No claim about a label was possible, whatever its scores: of so many labels and opponents the "
            "correction leaves no p-value that would count. Analyse fewer labels."
        )
    return Section(
        parts=[
            Words(text=about),
            Terms(entries=entries, kinds=kinds),
            Folded(
                title="The rules behind these sentences",
                parts=[Words(lines=[*rules(judgement.study.objective), _access(judgement)])],
            ),
        ]
    )


def _access(judgement: Judgement) -> str:
    """Whether this test split was still unseen."""
    if not (before := judgement.accessed_otherwise):
        return "The test split was used for nothing but these numbers."
    return (
        f"The test labels had been read {counted(len(before), 'time')} before for other numbers "
        f"({described(before)}), so that whoever knew those may have chosen by them: this split is no longer "
        "unseen."
    )
