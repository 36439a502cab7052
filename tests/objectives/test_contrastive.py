"""The contrastive terms against references in numpy, their facts, and their gradients."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from outweigh.errors import ShapeError
from outweigh.objectives.contrastive import assignment, signed_differences, simcse, swav


def drawn(rows=6, width=5, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(rows, width)), draw.normal(size=(rows, width)), draw.normal(size=(4, width))


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_simcse_is_its_equation():
    view, other, _ = drawn()
    expected = []
    for i, row in enumerate(view):
        weights = [np.exp(cosine(row, each) / 0.2) for each in other]
        expected.append(-np.log(weights[i] / sum(weights)))
    found = simcse(torch.tensor(view), torch.tensor(other), temperature=0.2)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def sinkhorn(scores, epsilon, rounds):
    """As SwAV writes it: the matrix is scaled to row and column sums, on plain numbers."""
    shares = np.exp(scores / epsilon)
    for _ in range(rounds):
        shares = shares / shares.sum(0, keepdims=True)
        shares = shares / shares.sum(1, keepdims=True)
    return shares


def test_swav_is_its_equation():
    view, other, prototypes = drawn(seed=1)
    scores, others = (
        np.array([[cosine(row, each) for each in prototypes] for row in rows]) for rows in (view, other)
    )
    targets, other_targets = sinkhorn(scores, 0.3, 4), sinkhorn(others, 0.3, 4)

    def log_p(score):
        return score / 0.2 - np.log(np.exp(score / 0.2).sum(1, keepdims=True))

    expected = -(targets * log_p(others) + other_targets * log_p(scores)).sum(1)
    given = (torch.tensor(each) for each in (view, other, prototypes))
    found = swav(*given, temperature=0.2, epsilon=0.3, rounds=4)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_gradients_are_those_of_finite_differences_but_for_the_assignment():
    view, other, prototypes = (torch.tensor(each, requires_grad=True) for each in drawn(rows=4, width=3))
    assert gradcheck(lambda *views: simcse(*views, temperature=0.5).sum(), (view, other))
    parts = (view, other, prototypes)
    scores = [
        np.array(
            [[cosine(row, each) for each in prototypes.detach().numpy()] for row in rows.detach().numpy()]
        )
        for rows in (view, other)
    ]
    targets, other_targets = (torch.tensor(sinkhorn(score, 0.3, 4)) for score in scores)

    def frozen(view, other, prototypes):
        """The equation with the assignments as they are at these views."""
        view, other, prototypes = (
            each / each.norm(dim=1, keepdim=True) for each in (view, other, prototypes)
        )
        log_p, other_log_p = ((each @ prototypes.T / 0.2).log_softmax(1) for each in (view, other))
        return -(targets * other_log_p + other_targets * log_p).sum()

    assert gradcheck(frozen, parts)
    expected = torch.autograd.grad(frozen(*parts), parts)
    found = torch.autograd.grad(swav(*parts, temperature=0.2, epsilon=0.3, rounds=4).sum(), parts)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)
        assert two.abs().max() > 1e-3


def test_rows_of_an_assignment_sum_to_one_and_prototypes_share_the_rows():
    shares = assignment(torch.tensor(drawn(rows=40)[0]), epsilon=0.5, rounds=200)
    torch.testing.assert_close(shares.sum(1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(shares.sum(0), torch.full((5,), 8.0, dtype=torch.float64), rtol=1e-4, atol=0)


def test_equal_views_lose_least_and_scale_does_not_matter():
    view, other, prototypes = (torch.tensor(each) for each in drawn(seed=2))
    assert (simcse(view, view) < simcse(view, other)).all()
    torch.testing.assert_close(simcse(3 * view, other / 7), simcse(view, other))
    torch.testing.assert_close(swav(3 * view, other, 5 * prototypes), swav(view, other, prototypes))


def test_a_single_row_has_no_negatives_and_no_loss():
    assert simcse(torch.ones(1, 3), torch.ones(1, 3)).item() == 0


def test_large_scores_stay_finite():
    assert torch.isfinite(assignment(torch.tensor([[1e3, -1e3], [5e2, 2e2]]))).all()
    view = torch.tensor([[1e20, 0.0], [0.0, 1e-20]])
    assert torch.isfinite(simcse(view, view.flip(0), temperature=1e-3)).all()


def test_differences_take_the_places_of_their_responses():
    rows = torch.tensor([[3.0, 1.0], [1.0, 5.0], [2.0, 2.0], [0.0, 1.0]])
    expected = torch.tensor([[2.0, -4.0], [-2.0, 4.0], [2.0, 1.0], [-2.0, -1.0]])
    assert torch.equal(signed_differences(rows), expected)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((4,), (4,))])
def test_views_of_other_shapes_are_refused(shapes):
    with pytest.raises(ShapeError, match=r"want \(S, H\) twice"):
        simcse(torch.ones(shapes[0]), torch.ones(shapes[1]))
