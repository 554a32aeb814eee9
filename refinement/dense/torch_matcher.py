"""Matching in plain torch: on a GPU, and where there is no native library. It is also the oracle of
the native code: both compute the same cost of a given plane, and try the same planes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from refinement.dense.problem import Geometry, Problem
from refinement.dense.views import Camera, Floats, View

_WORST = 2.0
_LEAST_DEPTH = 0.02
_HALF_COST = 0.3  # at which a neighbour counts half
_WORD = 0xFFFFFFFF


class TorchMatcher:
    """See `refinement.dense.native.NativeMatcher`, whose methods these are."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)

    def score(self, problem: Problem, geometry: Geometry | None = None) -> Floats:
        work = _Work(problem, geometry, self._device)
        patch = work.patch(work.everywhere)
        costs = [work.cost(patch, j, work.planes) for j in range(len(problem.sources))]
        return torch.stack(costs).view(-1, *problem.cost.shape).cpu().numpy()

    def rate(self, problem: Problem, geometry: Geometry | None = None) -> None:
        costs = torch.from_numpy(self.score(problem, geometry))
        best = costs.sort(0).values[:2].mean(0)
        problem.cost[:] = best.numpy()

    def improve(
        self, problem: Problem, iteration: int, wild: bool, geometry: Geometry | None = None
    ) -> None:
        work = _Work(problem, geometry, self._device)
        for colour in range(2):
            work.improve(iteration, colour, wild)
        problem.planes[:] = work.planes.view(problem.planes.shape).cpu().numpy()
        problem.cost[:] = work.costs.view(problem.cost.shape).cpu().numpy()


@dataclass(frozen=True)
class _Patch:
    """Pixels [P] with what all their hypotheses share: rays [5, P] of the centre and of the points
    left, right, above and below it, the distances between these, and the window's weighted grey
    values [samples, P]."""

    pixel: Tensor
    x: Tensor
    y: Tensor
    across: Tensor
    down: Tensor
    weight: Tensor
    weighted: Tensor
    total: Tensor
    mean: Tensor
    variance: Tensor


class _Work:
    """A problem's arrays as tensors, pixels in one row."""

    def __init__(self, problem: Problem, geometry: Geometry | None, device: torch.device) -> None:
        def tensor(array: Floats) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.problem, self.geometry, self.device = problem, geometry, device
        self.height, self.width = problem.cost.shape
        self.planes = tensor(problem.planes).view(3, -1)
        self.costs = tensor(problem.cost).view(-1)
        self.rays = tuple(tensor(ray).view(-1) for ray in problem.reference.camera.rays)
        self.grey = self._grey(problem.reference)
        self.source_grey = [self._grey(source) for source in problem.sources]
        self.inverse_depths = (
            [tensor(inverse).view(-1) for inverse in geometry.inverse_depths] if geometry else []
        )
        self.relative = [
            (rotation.astype(np.float32).tolist(), translation.astype(np.float32).tolist())
            for rotation, translation in map(problem.relative, problem.sources)
        ]
        self.offsets = problem.window.offsets.tolist()
        self.spatial = problem.window.spatial_weights.tolist()
        self.grey_weights = tensor(problem.window.grey_weights)
        self.everywhere = torch.arange(self.height * self.width, device=device)

    def _grey(self, view: View) -> Tensor:
        return torch.from_numpy(np.array(view.grey, np.float32)).to(self.device).view(-1)

    def patch(self, pixel: Tensor) -> _Patch:
        row, column = pixel // self.width, pixel % self.width
        radius = self.problem.window.radius
        left, right = (column - radius).clamp(min=0), (column + radius).clamp(max=self.width - 1)
        above, below = (row - radius).clamp(min=0), (row + radius).clamp(max=self.height - 1)
        points = torch.stack(
            (
                pixel,
                row * self.width + left,
                row * self.width + right,
                above * self.width + column,
                below * self.width + column,
            )
        )
        centre = self.grey[pixel]
        weights, values = [], []
        for (dx, dy), spatial in zip(self.offsets, self.spatial, strict=True):
            at = (row + dy).clamp(0, self.height - 1) * self.width
            value = self.grey[at + (column + dx).clamp(0, self.width - 1)]
            weights.append(self.grey_weights[(value - centre).abs().long()] * spatial)
            values.append(value)
        weight, value = torch.stack(weights), torch.stack(values)
        total = 1 / weight.sum(0)
        mean = (weight * value).sum(0) * total
        square = (weight * value * value).sum(0) * total
        return _Patch(
            pixel,
            self.rays[0][points],
            self.rays[1][points],
            1 / (right - left).clamp(min=1),
            1 / (below - above).clamp(min=1),
            weight,
            weight * value,
            total,
            mean,
            square - mean * mean + self.problem.window.grey_noise,
        )

    def cost(self, patch: _Patch, j: int, plane: Tensor) -> Tensor:
        """Of planes [3, P] in source j, [P]: one minus the weighted correlation of the windows,
        the source's taken where the plane's first-order map puts it."""
        view = self.problem.sources[j]
        camera = view.camera
        rotation, translation = self.relative[j]
        inverse = plane[0] * patch.x + plane[1] * patch.y + plane[2]
        point = [
            rotation[i][0] * patch.x
            + rotation[i][1] * patch.y
            + rotation[i][2]
            + translation[i] * inverse
            for i in range(3)
        ]
        columns, rows, front = _project(camera, point)
        seen = front.all(0)
        seen &= (columns[0] > 0) & (columns[0] < camera.width)
        seen &= (rows[0] > 0) & (rows[0] < camera.height)
        column = torch.where(seen, columns[0] - 0.5, 0)
        row = torch.where(seen, rows[0] - 0.5, 0)
        column_x, row_x = columns[2] - columns[1], rows[2] - rows[1]
        column_x, row_x = column_x * patch.across, row_x * patch.across
        column_y, row_y = (columns[4] - columns[3]) * patch.down, (rows[4] - rows[3]) * patch.down
        sums = torch.zeros(3, len(patch.pixel), device=self.device)
        for k, (dx, dy) in enumerate(self.offsets):
            value = self._sampled(
                j, column + column_x * dx + column_y * dy, row + row_x * dx + row_y * dy
            )
            weighted = patch.weight[k] * value
            sums[0] += weighted
            sums[1] += weighted * value
            sums[2] += patch.weighted[k] * value
        mean = sums[0] * patch.total
        variance = sums[1] * patch.total - mean * mean + self.problem.window.grey_noise
        covariance = sums[2] * patch.total - mean * patch.mean
        cost = 1 - covariance / (variance * patch.variance).clamp(min=1e-6).sqrt()
        worst = _WORST
        if self.geometry is not None:
            at_row = (row + 0.5).clamp(0, camera.height - 1).long()
            at = at_row * camera.width + (column + 0.5).clamp(0, camera.width - 1).long()
            known = self.inverse_depths[j][at]
            error = self._return(patch, j, [p[0] for p in point], inverse[0], known, seen)
            cost = cost + self.geometry.weight * error
            worst += self.geometry.weight * self.geometry.limit
        return torch.where(seen, cost.clamp(max=worst), worst)

    def _sampled(self, j: int, column: Tensor, row: Tensor) -> Tensor:
        camera, grey = self.problem.sources[j].camera, self.source_grey[j]
        column, row = column.clamp(0, camera.width - 1), row.clamp(0, camera.height - 1)
        left, above = column.floor(), row.floor()
        across, down = column - left, row - above
        first = above.long() * camera.width + left.long()
        right = (left < camera.width - 1).long()
        below = (above < camera.height - 1).long() * camera.width
        upper = torch.lerp(grey[first], grey[first + right], across)
        lower = torch.lerp(grey[first + below], grey[first + below + right], across)
        return torch.lerp(upper, lower, down)

    def _return(
        self, patch: _Patch, j: int, point: list[Tensor], own: Tensor, known: Tensor, seen: Tensor
    ) -> Tensor:
        """Pixels between the centre and where it comes back to by way of the source's depth."""
        assert self.geometry is not None
        camera = self.problem.reference.camera
        rotation, translation = self.relative[j]
        fine = seen & (known > 0)
        depth = 1 / torch.where(known > 0, known, 1)
        over = depth / torch.where(seen, point[2], 1)
        moved = [point[i] * over - translation[i] for i in range(3)]
        back = [sum(rotation[k][i] * moved[k] for k in range(3)) * own for i in range(3)]
        column, row, front = _project(camera, back)
        home = [patch.x[0], patch.y[0], torch.ones_like(own)]
        home_column, home_row, _ = _project(camera, home)
        error = torch.hypot(column - home_column, row - home_row)
        limit = self.geometry.limit
        return torch.where(fine & front, error.clamp(max=limit), limit)

    def improve(self, iteration: int, colour: int, wild: bool) -> None:
        rows, columns = self.everywhere // self.width, self.everywhere % self.width
        pixel = self.everywhere[(rows + columns) % 2 == colour]
        patch = self.patch(pixel)
        sources = range(len(self.problem.sources))
        # far planes help while most are wrong; later, those close by do
        regions = _REGIONS if wild else _REGIONS[:4]
        candidates = [self.planes[:, self._best_of(region, pixel)] for region in regions]
        candidates.append(self.planes[:, pixel])
        costs = torch.stack(
            [torch.stack([self.cost(patch, j, plane) for j in sources]) for plane in candidates]
        )
        shares = (1e-4 + (1 / (1 + (costs / _HALF_COST) ** 4)).sum(0)) ** 2
        shares /= shares.sum(0)

        def joined(of: Tensor) -> Tensor:
            return (shares * of).sum(0)

        best = candidates[-1]
        least = torch.where(self._in_range(patch, best), joined(costs[-1]), 1e9)

        def attempt(plane: Tensor, fine: Tensor | None, cost: Tensor | None = None) -> None:
            nonlocal best, least
            if cost is None:
                cost = joined(torch.stack([self.cost(patch, j, plane) for j in sources]))
            better = self._in_range(patch, plane) & (cost < least)
            if fine is not None:
                better &= fine
            least, best = torch.where(better, cost, least), torch.where(better, plane, best)

        for plane, cost in zip(candidates[:-1], costs[:-1], strict=True):
            attempt(plane, None, joined(cost))
        draws = _Draws(self.problem.seed, iteration, pixel)
        x, y = patch.x[0], patch.y[0]

        def here() -> Tensor:
            return best[0] * x + best[1] * y + best[2]

        def step(most: float) -> Tensor:
            size = 0.5 ** (draws.uniform() * 10).floor()
            return size * draws.symmetric() * most

        def turned(inverse: Tensor) -> tuple[Tensor, Tensor]:
            size = 0.5 ** (draws.uniform() * 4).floor() * 0.5
            length = best.square().sum(0).sqrt() * size
            normal = torch.stack([best[i] + length * draws.symmetric() for i in range(3)])
            return _through(normal, x, y, inverse)

        attempt(best * (1 + step(0.1)), None)
        attempt(*turned(here()))
        attempt(*turned(here() * (1 + step(0.05))))
        if wild:
            low, high = self.problem.least_inverse, self.problem.most_inverse
            attempt(best * ((low + (high - low) * draws.uniform()) / here()), None)
            normal = torch.stack([draws.symmetric() for _ in range(3)])
            attempt(*_through(normal, x, y, here()))
        self.planes[:, pixel] = best
        self.costs[pixel] = least

    def _in_range(self, patch: _Patch, plane: Tensor) -> Tensor:
        inverse = plane[0] * patch.x[0] + plane[1] * patch.y[0] + plane[2]
        return (inverse >= self.problem.least_inverse) & (inverse <= self.problem.most_inverse)

    def _best_of(self, region: list[tuple[int, int]], pixel: Tensor) -> Tensor:
        row, column = pixel // self.width, pixel % self.width
        found, least = pixel, torch.full(pixel.shape, 1e9, device=self.device)
        for dx, dy in region:
            x, y = column + dx, row + dy
            inside = (x >= 0) & (y >= 0) & (x < self.width) & (y < self.height)
            at = torch.where(inside, y * self.width + x, pixel)
            cost = torch.where(inside, self.costs[at], 1e9)
            found, least = torch.where(cost < least, at, found), torch.minimum(cost, least)
        return found


def _regions() -> list[list[tuple[int, int]]]:
    """Offsets of eight regions of the other colour: four V shapes close by, four strips farther
    away."""
    near = [(1, 0)] + [(1 + step, side * step) for step in (1, 2, 3) for side in (1, -1)]
    far = [(3 + 2 * step, 0) for step in range(11)]
    turns: list[Callable[[int, int], tuple[int, int]]] = [
        lambda ahead, aside: (aside, -ahead),
        lambda ahead, aside: (ahead, aside),
        lambda ahead, aside: (aside, ahead),
        lambda ahead, aside: (-ahead, aside),
    ]
    return [[turn(*offset) for offset in shape] for shape in (near, far) for turn in turns]


_REGIONS = _regions()


def _project(camera: Camera, point: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    front = point[2] > _LEAST_DEPTH
    scale = 1 / torch.where(front, point[2], 1)
    x, y = point[0] * scale, point[1] * scale
    r2 = camera.distortion * (x * x + y * y)
    column = camera.focal_x * (1 + r2) * x + camera.cx
    row = camera.focal_y * (1 + r2) * y + camera.cy
    return column, row, front & (3 * r2 > -1)


def _through(normal: Tensor, x: Tensor, y: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """The plane of that normal through the point of inverse depth `inverse` on the ray (x, y, 1),
    and whether it is seen at more than about six degrees."""
    along = normal[0] * x + normal[1] * y + normal[2]
    fine = along.square() > 0.01 * normal.square().sum(0) * (x * x + y * y + 1)
    return normal * (inverse / torch.where(fine, along, 1)), fine


class _Draws:
    """Random numbers that depend on nothing but what they are for, as in `native/patchmatch.h`."""

    def __init__(self, seed: int, iteration: int, pixel: Tensor) -> None:
        stream = torch.tensor(
            (seed * 0x9E3779B9 + iteration * 0x7F4A7C15 + 1) & _WORD, device=pixel.device
        )
        self._state = _mixed((pixel * 0x9E3779B1 + _mixed(stream)) & _WORD)

    def uniform(self) -> Tensor:
        self._state = _mixed((self._state + 0x6D2B79F5) & _WORD)
        return (self._state >> 8).float() / (1 << 24)

    def symmetric(self) -> Tensor:
        return self.uniform() * 2 - 1


def _mixed(value: Tensor) -> Tensor:
    value = value ^ (value >> 16)
    value = (value * 0x85EBCA6B) & _WORD
    value = value ^ (value >> 13)
    value = (value * 0xC2B2AE35) & _WORD
    return value ^ (value >> 16)
