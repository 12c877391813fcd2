"""Which field is a sentence about? Text that ships with SciPy and Python, and how sure to be of it.

Eight fields of SciPy's documentation: a sentence such as "The shape of the kernel must match the
image" is to be told from those about statistics, signals or matrices. Functions are held out whole:
no test sentence is from a function that a training sentence describes. Sentences of Python's own
reference and of software licenses belong to no field; a network that knows what it does not know is
unsure of them. MC dropout against dropout off, a network without dropout, a deep ensemble of five
and logistic regression. `python examples/sentences.py --out FOLDER` takes a few minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from rich.progress import track
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from studies.documentation import (
    FIELDS,
    Sentence,
    documentation,
    language_reference,
    licenses,
    words,
)
from studies.sentences_picture import draw
from studies.study import Content, main, mean_and_error, rounded
from torch import Tensor, nn
from torch.nn import functional as F

import mcdrop
from mcdrop import ClassificationPrediction, metrics
from mcdrop.baselines.stacked import Member, Training, train_stacked

# Sentences of each field, in training and test; of other kinds of text as many as in the test.
N_TRAIN, N_TEST = 200, 120
MEMBERS, PASSES, RATE, WIDTH, LENGTH = 5, 64, 0.3, 64, 40
# Rate and epochs were settled on the splits 0 and 1.
SEEDS = tuple(range(2, 10))
# A test sentence that shares this much of its words with a training sentence is a near copy.
NEAR_COPY = 0.6
REFERRED = tuple(round(0.05 * i, 2) for i in range(20))


class Reader(nn.Module):
    """Mean of word vectors, then one hidden layer; dropout drops whole words and units."""

    def __init__(self, n_words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words + 1, WIDTH)
        self.drop_words = nn.Dropout(RATE)
        self.head = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(RATE), nn.Linear(WIDTH, len(FIELDS))
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits (N, C) of sentences (N, L); word 0 stands for none."""
        present = (ids > 0).unsqueeze(-1).to(self.embedding.weight.dtype)
        vectors = self.embedding(ids) * self.drop_words(present)
        out: Tensor = self.head(vectors.sum(dim=1) / present.sum(dim=1).clamp_min(1))
        return out


@dataclass(frozen=True)
class Split:
    """Training and test sentences that describe different functions."""

    train: list[Sentence]
    test: list[Sentence]


def split(sentences: Sequence[Sentence], seed: int) -> Split:
    """Put three fifths of the functions of each field into training, and leave out near copies."""
    random = np.random.default_rng(seed)
    train: list[Sentence] = []
    test: list[Sentence] = []
    for field in range(len(FIELDS)):
        of_field = [sentences[i] for i in random.permutation(len(sentences))]
        of_field = [s for s in of_field if s.field == field]
        functions = sorted({s.function for s in of_field})
        kept = set(random.permutation(functions)[: round(0.6 * len(functions))].tolist())
        train += [s for s in of_field if s.function in kept][:N_TRAIN]
        test += [s for s in of_field if s.function not in kept][: 2 * N_TEST]
    test = [s for s, copy in zip(test, near_copies(test, train), strict=True) if not copy]
    return Split(train, [s for f in range(len(FIELDS)) for s in _of(test, f)[:N_TEST]])


def _of(sentences: Iterable[Sentence], field: int) -> list[Sentence]:
    return [s for s in sentences if s.field == field]


def near_copies(these: Sequence[Sentence], others: Sequence[Sentence]) -> list[bool]:
    """Say which of these share `NEAR_COPY` of all words of both with one of the others."""
    numbers = _numbers([*these, *others])

    def counts(sentences: Sequence[Sentence]) -> csr_array:
        pairs = [(i, numbers[w]) for i, s in enumerate(sentences) for w in set(words(s.text))]
        rows, columns = np.array(pairs).T
        shape = (len(sentences), len(numbers) + 1)
        return csr_array((np.ones(len(pairs)), (rows, columns)), shape=shape)

    a, b = counts(these), counts(others)
    common = (a @ b.T).toarray()
    total = a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :] - common
    return (common / total >= NEAR_COPY).any(axis=1).tolist()


def _numbers(sentences: Iterable[Sentence]) -> dict[str, int]:
    """Number the words of sentences, from 1."""
    return {w: i + 1 for i, w in enumerate(sorted({w for s in sentences for w in words(s.text)}))}


def encoded(texts: Iterable[str], numbers: dict[str, int]) -> Tensor:
    """Return the numbers of the words of each text, (N, L); words without one are skipped."""
    ids = [[numbers[w] for w in words(text) if w in numbers][:LENGTH] for text in texts]
    return torch.tensor([each + [0] * (LENGTH - len(each)) for each in ids])


def trained(splits: Sequence[Split], numbers: dict[str, int], small: bool) -> list[nn.Module]:
    """Train, for each split, one network with dropout and five without, all in the same steps."""
    sentences = [s for each in splits for s in each.train]
    ends = np.cumsum([0, *[len(each.train) for each in splits]])
    members = [
        Member(torch.arange(begin, end), rate, 0.0, seed=100 * number + i)
        for number, (begin, end) in enumerate(pairwise(ends.tolist()))
        for i, rate in enumerate([RATE, *[0.0] * MEMBERS])
    ]

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        each = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
        return each.view(y.shape).mean(dim=1)

    return train_stacked(
        "sentences",
        lambda: Reader(len(numbers)),
        encoded((s.text for s in sentences), numbers),
        torch.tensor([s.field for s in sentences]),
        members,
        loss,
        Training(max_epochs=2 if small else 30, batch_size=64, learning_rate=5e-3, progress=True),
    )


@torch.no_grad()
def predictions(
    nets: Sequence[nn.Module], texts: Sequence[str], each: Split, numbers: dict[str, int], seed: int
) -> dict[str, ClassificationPrediction]:
    """Predict texts by every method that was trained on one split."""
    seen = {w: numbers[w] for s in each.train for w in words(s.text)}
    ids = encoded(texts, seen)
    dropout, *members = nets
    probs = torch.stack([net(ids).double().softmax(dim=1) for net in members])
    tfidf = TfidfVectorizer(tokenizer=words, token_pattern=None)
    X = tfidf.fit_transform([s.text for s in each.train])
    logistic = LogisticRegression(C=10.0, max_iter=1000).fit(X, [s.field for s in each.train])
    return {
        "logistic regression": ClassificationPrediction.from_probs(
            logistic.predict_proba(tfidf.transform(texts))
        ),
        "no dropout": ClassificationPrediction.from_probs(probs[0]),
        "deep ensemble": ClassificationPrediction.from_samples(probs),
        "dropout off": ClassificationPrediction.from_probs(dropout(ids).double().softmax(dim=1)),
        "MC dropout": mcdrop.predict_with_uncertainty(
            dropout, ids, task="classification", n_samples=PASSES, seed=seed
        ),
    }


def scores(p: ClassificationPrediction, y: Tensor, others: Sequence[str]) -> dict[str, float]:
    """Score a prediction of test sentences and, after them, of as many of each other kind."""
    n, known = len(y), p[: len(y)]
    wrong = (known.labels != y).double()
    found = {
        "accuracy": metrics.accuracy(known.probs, y),
        "NLL": metrics.nll_categorical(known.probs, y).mean().item(),
        "ECE": metrics.expected_calibration_error(known.probs, y, debiased=True),
        "AURC": metrics.aurc(known.predictive_entropy, loss=wrong),
        **{
            f"referring {share:g}": metrics.selective_risk(
                known.predictive_entropy, loss=wrong, coverage=1 - share
            )
            for share in REFERRED
        },
    }
    for i, kind in enumerate(others):
        both = torch.cat([torch.arange(n), torch.arange((i + 1) * n, (i + 2) * n)])
        is_other = torch.arange(2 * n) >= n
        found[f"{kind}, entropy"] = metrics.ood_auroc(p.predictive_entropy[both], is_other)
        if bool(p.mutual_information.any()):
            found[f"{kind}, mutual information"] = metrics.ood_auroc(
                p.mutual_information[both], is_other
            )
    return found


def measure(small: bool = False) -> Content:
    """Repeat over seeds, each with its own split, weights, batches and masks."""
    sentences = documentation()
    other = {"Python's reference": language_reference(), "licenses": licenses()}
    splits = [split(sentences, seed) for seed in (SEEDS[:2] if small else SEEDS)]
    numbers = _numbers(s for each in splits for s in each.train)
    nets = trained(splits, numbers, small)
    found: dict[str, dict[str, list[float]]] = {}
    shown: list[dict[str, Any]] = []
    for number, each in track(list(enumerate(splits)), "scores"):
        random = np.random.default_rng(number)
        # With replacement: there are fewer sentences of licenses than of the test.
        drawn = {
            kind: [texts[i] for i in random.integers(len(texts), size=len(each.test))]
            for kind, texts in other.items()
        }
        texts = [s.text for s in each.test] + [t for part in drawn.values() for t in part]
        own = nets[number * (MEMBERS + 1) : (number + 1) * (MEMBERS + 1)]
        y = torch.tensor([s.field for s in each.test])
        for name, p in predictions(own, texts, each, numbers, number).items():
            for score, value in scores(p, y, list(drawn)).items():
                found.setdefault(name, {}).setdefault(score, []).append(value)
            if name == "MC dropout" and number == 0:
                shown = examples(p, texts, y)
    settings = {
        "fields": dict(FIELDS), "train": [len(each.train) for each in splits],
        "test": [len(each.test) for each in splits], "members": MEMBERS, "passes": PASSES,
        "rate": RATE,
    }  # fmt: skip
    return {"settings": settings, "scores": rounded(found), "shown": rounded(shown, 3)}


def examples(p: ClassificationPrediction, texts: Sequence[str], y: Tensor) -> list[dict[str, Any]]:
    """Return short sentences for the picture: the surest, the least sure, and one of each kind."""
    n = len(y)
    short = torch.tensor([len(text) <= 75 for text in texts])
    entropy = p.predictive_entropy.where(short, torch.nan)
    sure = int(entropy[:n].nan_to_num(torch.inf).argmin())
    unsure = int(entropy[:n].nan_to_num(-torch.inf).argmax())
    median = [
        int((entropy[k * n : (k + 1) * n] - entropy[k * n : (k + 1) * n].nanmedian()).abs()
            .nan_to_num(torch.inf).argmin()) + k * n
        for k in range(1, len(texts) // n)
    ]  # fmt: skip
    return [
        {"text": texts[i], "probs": p.probs[i].tolist(), "field": int(y[i]) if i < n else None}
        for i in (sure, unsure, *median)
    ]


def told(content: Content) -> list[str]:
    """Return means with standard errors over seeds; the page pairs them."""
    return [
        f"{method}: "
        + ", ".join(
            "{} {:.3f} ± {:.3f}".format(score, *mean_and_error(values))
            for score, values in found.items()
            if not score.startswith("referring")
        )
        for method, found in content["scores"].items()
    ]


if __name__ == "__main__":
    main(measure, draw, told, __doc__)
