"""Neural baselines of KALM4Rec for users of whom only keywords are known: BPR-MF, MultVAE, CLCRec.

A cold user has no vector and no history; as in the older repository (dangkh/KALM4Rec) the three most similar training
users, by keywords, stand in. Sizes are small: these are the comparison's rows, not the product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank_lm.threads import torch_threads

Near = Sequence[Sequence[int]]


def _mean_rows(matrix: NDArray[np.float32], near: Near) -> NDArray[np.float32]:
    empty = matrix.mean(axis=0)
    return np.stack([matrix[list(n)].mean(axis=0) if len(n) else empty for n in near])


def mf(user_items: NDArray[np.float32], near: Near, *, factors: int = 32, seed: int = 0) -> NDArray[np.float64]:
    """BPR matrix factorisation (Rendle et al., UAI 2009); a cold user is the mean of the similar users' vectors."""
    import scipy.sparse as sp
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        model = BayesianPersonalizedRanking(
            factors=factors, learning_rate=0.05, iterations=100, random_state=seed, num_threads=1
        )
        model.fit(sp.csr_matrix(user_items), show_progress=False)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return np.asarray(_mean_rows(users, near) @ items.T, dtype=np.float64)


@torch_threads(1)
def multvae(
    user_items: NDArray[np.float32],
    near: Near,
    *,
    hidden: int = 64,
    latent: int = 16,
    kl: float = 0.2,
    epochs: int = 60,
    seed: int = 0,
) -> NDArray[np.float64]:
    """MultVAE (Liang et al., WWW 2018): tanh, dropout 0.5, KL weight 0.2; input of a cold user: the similar users' mean."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    n = user_items.shape[1]
    encoder = nn.Sequential(nn.Linear(n, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
    decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, n))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
    data = torch.from_numpy(user_items)
    for _ in range(epochs):
        for batch in torch.randperm(len(data), generator=generator).split(128):
            x = data[batch]
            dropped = nn.functional.dropout(nn.functional.normalize(x, dim=1), 0.5)
            mean, log_var = encoder(dropped).chunk(2, dim=1)
            z = mean + torch.randn(mean.shape, generator=generator) * (0.5 * log_var).exp()
            likelihood = (nn.functional.log_softmax(decoder(z), dim=1) * x).sum(1)
            divergence = 0.5 * (mean.pow(2) + log_var.exp() - 1 - log_var).sum(1)
            loss = (kl * divergence - likelihood).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        x = torch.from_numpy(_mean_rows(user_items, near))
        scores = decoder(encoder(nn.functional.normalize(x, dim=1)).chunk(2, dim=1)[0])
    return scores.double().numpy()


@torch_threads(1)
def clcrec(
    user_items: NDArray[np.float32],
    content: NDArray[np.float64],
    near: Near,
    *,
    size: int = 32,
    weight: float = 0.5,
    temperature: float = 0.2,
    negatives: int = 32,
    epochs: int = 40,
    seed: int = 0,
) -> NDArray[np.float64]:
    """CLCRec (Wei et al., MM 2021): contrastive losses tie an item's content vector to its collaborative vector.

    Parameters
    ----------
    content
        Shape (n_items, n_features): the items' keyword weights.
    weight
        Of the content-collaborative loss against the user-item loss.
    """
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy, normalize

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    n_users, n_items = user_items.shape
    features = torch.from_numpy(content.astype(np.float32))
    users, items = nn.Embedding(n_users, size), nn.Embedding(n_items, size)
    encoder = nn.Sequential(nn.Linear(features.shape[1], 2 * size), nn.LeakyReLU(), nn.Linear(2 * size, size))
    optimizer = torch.optim.Adam([*users.parameters(), *items.parameters(), *encoder.parameters()], lr=3e-3)
    pairs = torch.from_numpy(np.argwhere(user_items > 0))
    for _ in range(epochs):
        for batch in torch.randperm(len(pairs), generator=generator).split(64):
            u, i = pairs[batch].T
            other = torch.randint(n_items, (len(u), negatives), generator=generator)
            columns = torch.cat([i[:, None], other], dim=1)
            z = normalize(encoder(features), dim=1)
            # Half of the positives are seen through their content only, so that content alone can stand in.
            through = torch.rand(columns.shape, generator=generator)[..., None] < 0.5
            vectors = torch.where(through, z[columns], normalize(items(columns), dim=2))
            first = torch.zeros(len(u), dtype=torch.long)
            like = (normalize(users(u), dim=1)[:, None] * vectors).sum(2) / temperature
            tie = (normalize(items(i), dim=1)[:, None] * z[columns]).sum(2) / temperature
            loss = (1 - weight) * cross_entropy(like, first) + weight * cross_entropy(tie, first)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        vectors = normalize(encoder(features), dim=1) + normalize(items.weight, dim=1)
        mean = torch.from_numpy(_mean_rows(normalize(users.weight, dim=1).numpy(), near))
        return (mean @ vectors.T).double().numpy()
