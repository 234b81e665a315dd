"""What a model's card says of the data that the model heard: a corpus, fresh samples, or both."""

from manifests.corpus_summary import CorpusSummary
from manifests.online import OnlineRecord
from pipelines.markdown import NUMBER, TEXT, escaped, table
from training.bundle import BundleInfo


def training_data(info: BundleInfo) -> str:
    """Return what a model learned from, as Markdown."""
    texts = [_fresh(info.online)] if info.online is not None else []
    if info.corpus is not None:
        texts += _from_corpus(info, info.corpus)
    elif info.online is None:
        texts.append(f"Corpus {escaped(info.corpus_id)}; what it is made of was not recorded.")
    return "\n\n".join(texts)


def _fresh(online: OnlineRecord) -> str:
    share = "All samples" if online.weight == 1.0 else f"A share of {online.weight:g} of the samples"
    licences = (
        f"Licences of the material: {escaped(', '.join(online.allow_licences))}."
        if online.allow_licences is not None
        else "Licences of the material were not limited; those of each source are in the catalogue."
    )
    return (
        f"{share} it learned from were rendered while it was trained: recipe {escaped(online.recipe)} "
        f"({escaped(online.recipe_digest)}), catalogue {escaped(online.catalogue_digest)}, seed {online.seed}, by "
        f"ssiforge {escaped(online.code_version)}. {licences}"
    )


def _from_corpus(info: BundleInfo, corpus: CorpusSummary) -> list[str]:
    corpus_id = corpus_id_of(info)
    samples = ", ".join(f"{split} {count}" for split, count in corpus.samples.items())
    parts = [(part.id, part.recipe, f"{part.hours:.2f}", f"{part.weight:g}") for part in corpus.parts] or [
        (corpus_id, corpus.recipe, f"{corpus.hours:.2f}", "1")
    ]
    use = " It served validation alone." if info.online is not None and info.online.weight == 1.0 else ""
    texts = [
        f"Degraded speech that was synthesised from clean speech, noise and rooms: corpus {escaped(corpus_id)}, "
        f"{corpus.hours:.2f} hours, samples: {escaped(samples)}.{use}",
        table(("corpus", "recipe", "hours", "weight"), parts, (TEXT, TEXT, NUMBER, NUMBER)),
    ]
    if info.selection is not None:
        kept = ", ".join(f"{split} {count}" for split, count in info.selection.samples.items())
        texts.append(
            f"Used were samples for which {escaped(info.selection.expression)} holds: {escaped(kept)}."
        )
    licences = sorted(corpus.licences.items(), key=lambda item: (-item[1], item[0]))
    which = "" if info.selection is None else " of the whole corpus, samples that were left out among them"
    texts.append(f"Licences of the material{which}, with the number of samples that hold some:")
    texts.append(
        table(("licence", "samples"), licences, (TEXT, NUMBER)) if licences else "None was recorded."
    )
    return texts


def corpus_id_of(info: BundleInfo) -> str:
    """Return the id of the corpus that a model heard: beside fresh samples, their record names it."""
    return info.online.corpus_id if info.online is not None else info.corpus_id
