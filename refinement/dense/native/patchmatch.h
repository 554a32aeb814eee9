// PatchMatch stereo with slanted planes, eight pixels at a time. Included once per instruction set; everything has
// internal linkage. The method is described in `refinement/dense/depth.py`. `refinement/dense/torch_matcher.py`
// does the same in plain torch.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "interface.h"

namespace {

constexpr int kLanes = 8;
typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Bits __attribute__((vector_size(kLanes * 4)));

constexpr float kWorst = 2.0f;  // cost of a plane that the source does not see
constexpr int kNeighbours = 8;

inline Floats floats(float x) { return Floats{} + x; }
inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }
inline Ints to_ints(Floats v) { return __builtin_convertvector(v, Ints); }
inline Floats choose(Ints mask, Floats yes, Floats no) { return mask ? yes : no; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }
inline Floats clamp(Floats v, float low, float high) { return smaller(larger(v, floats(low)), floats(high)); }

inline Floats root(Floats v) {
    for (int i = 0; i < kLanes; ++i) v[i] = std::sqrt(v[i]);
    return v;
}

template <class T>
inline Bits gather(const T* from, Ints index) {
    static_assert(sizeof(T) == 4, "four bytes");
#if defined(__AVX2__)
    return (Bits)_mm256_i32gather_epi32(reinterpret_cast<const int*>(from), (__m256i)index, 4);
#else
    Bits found;
    for (int i = 0; i < kLanes; ++i) std::memcpy(&found[i], from + index[i], 4);
    return found;
#endif
}

inline Floats gather_floats(const float* from, Ints index) { return (Floats)gather(from, index); }
inline Floats byte(Bits quads, int shift) { return to_floats((Ints)((quads >> shift) & 255u)); }

// Random numbers that depend on nothing but what they are for (a finaliser of MurmurHash3).
inline Bits mixed(Bits v) {
    v ^= v >> 16;
    v *= 0x85ebca6bu;
    v ^= v >> 13;
    v *= 0xc2b2ae35u;
    v ^= v >> 16;
    return v;
}

class Draws {
  public:
    Draws(uint32_t seed, int iteration, Ints pixel) {
        const Bits stream = mixed(Bits{} + (seed * 0x9e3779b9u + uint32_t(iteration) * 0x7f4a7c15u + 1u));
        state_ = mixed((Bits)pixel * 0x9e3779b1u + stream);
    }
    Floats uniform() {  // [0, 1)
        state_ = mixed(state_ + 0x6d2b79f5u);
        return to_floats((Ints)(state_ >> 8)) * (1.0f / (1 << 24));
    }
    Floats symmetric() { return uniform() * 2.0f - 1.0f; }

  private:
    Bits state_;
};

// One half, so many times.
inline Floats halved(Ints times) { return (Floats)((127 - times) << 23); }

struct Plane {
    Floats a, b, c;
    Floats at(Floats x, Floats y) const { return a * x + b * y + c; }
    Plane times(Floats s) const { return {a * s, b * s, c * s}; }
};

inline Plane choose(Ints mask, const Plane& yes, const Plane& no) {
    return {choose(mask, yes.a, no.a), choose(mask, yes.b, no.b), choose(mask, yes.c, no.c)};
}

// A plane of that normal through the point of inverse depth `inverse` on the ray. `usable` is cleared where the camera
// would see it at less than about six degrees.
inline Plane through(Floats nx, Floats ny, Floats nz, Floats x, Floats y, Floats inverse, Ints& usable) {
    const Floats along = nx * x + ny * y + nz;
    usable &= along * along > 0.01f * (nx * nx + ny * ny + nz * nz) * (x * x + y * y + 1.0f);
    const Floats scale = inverse / choose(usable, along, floats(1));
    return {nx * scale, ny * scale, nz * scale};
}

// Eight pixels of one row, two apart, and all that their hypotheses share.
struct Group {
    int y, x, count;  // the first pixel; how many of the eight lie inside
    Ints pixel;       // index
    Floats ray_x[5], ray_y[5];  // centre, left, right, above, below
    Floats across, down;        // one over the distances left to right, above to below, in pixels
    Floats weight[kMostSamples], weighted[kMostSamples];
    Floats mean, variance, total;
    Floats base[kMostSources][5][3];  // the rays in the sources' frames

    void load(const Problem& p, int row, int first) {
        const View& v = p.reference;
        y = row;
        x = first;
        count = std::min(kLanes, (v.width - first + 1) / 2);
        int column[kLanes];
        for (int i = 0; i < kLanes; ++i) {
            column[i] = std::min(first + 2 * i, v.width - 1);
            pixel[i] = row * v.width + column[i];
        }
        const int above = std::max(row - p.radius, 0), below = std::min(row + p.radius, v.height - 1);
        for (int i = 0; i < kLanes; ++i) {
            const int left = std::max(column[i] - p.radius, 0), right = std::min(column[i] + p.radius, v.width - 1);
            const int points[5] = {pixel[i], row * v.width + left, row * v.width + right, above * v.width + column[i],
                                   below * v.width + column[i]};
            for (int k = 0; k < 5; ++k) {
                ray_x[k][i] = v.ray_x[points[k]];
                ray_y[k][i] = v.ray_y[points[k]];
            }
            across[i] = 1.0f / std::max(right - left, 1);
        }
        down = floats(1.0f / std::max(below - above, 1));
        Floats sum{}, squares{};
        total = Floats{};
        uint8_t centre[kLanes];
        for (int i = 0; i < kLanes; ++i) centre[i] = uint8_t(v.quads[pixel[i]]);
        for (int k = 0; k < p.sample_count; ++k) {
            const int line = std::clamp(row + int(p.offset_y[k]), 0, v.height - 1) * v.width;
            Floats w, g;
            for (int i = 0; i < kLanes; ++i) {
                const int at = std::clamp(column[i] + int(p.offset_x[k]), 0, v.width - 1);
                const int grey = uint8_t(v.quads[line + at]);
                g[i] = float(grey);
                w[i] = p.grey_weight[std::abs(grey - int(centre[i]))];
            }
            w *= p.spatial_weight[k];
            weight[k] = w;
            weighted[k] = w * g;
            total += w;
            sum += w * g;
            squares += w * g * g;
        }
        total = 1.0f / total;
        mean = sum * total;
        variance = squares * total - mean * mean + p.grey_noise;
        for (int j = 0; j < p.source_count; ++j) {
            const float* r = p.sources[j].rotation;
            for (int k = 0; k < 5; ++k)
                for (int i = 0; i < 3; ++i) base[j][k][i] = r[3 * i] * ray_x[k] + r[3 * i + 1] * ray_y[k] + r[3 * i + 2];
        }
    }
};

// A point of a source's frame on its pixels, edges at integers; `seen` is cleared where it does not fall on any.
inline void project(const View& v, const Floats point[3], Floats& column, Floats& line, Ints& seen) {
    seen &= point[2] > 0.02f;
    const Floats scale = 1.0f / choose(point[2] > 0.02f, point[2], floats(1));
    const Floats x = point[0] * scale, y = point[1] * scale;
    const Floats r2 = v.distortion * (x * x + y * y);
    seen &= 3.0f * r2 > -1.0f;  // beyond, the model turns back
    column = v.focal_x * (1.0f + r2) * x + v.cx;
    line = v.focal_y * (1.0f + r2) * y + v.cy;
}

struct Sums {
    Floats values{}, squares{}, products{};
};

template <bool Keep>
inline void correlate(const Problem& p, const Group& g, const View& v, Floats column_0, Floats line_0, Floats column_x,
                      Floats line_x, Floats column_y, Floats line_y, Sums& sums) {
    const float width = float(v.width), last_column = float(v.width - 1), last_line = float(v.height - 1);
    for (int k = 0; k < p.sample_count; ++k) {
        const float dx = p.offset_x[k], dy = p.offset_y[k];
        Floats c = column_0 + column_x * dx + column_y * dy, l = line_0 + line_x * dx + line_y * dy;
        if (Keep) {
            c = clamp(c, 0, last_column);
            l = clamp(l, 0, last_line);
        }
        const Floats whole_c = to_floats(to_ints(c)), whole_l = to_floats(to_ints(l));
        const Floats fc = c - whole_c, fl = l - whole_l;
        const Bits quad = gather(v.quads, to_ints(whole_l * width + whole_c));  // below 2^24, floats are exact
        const Floats upper_left = byte(quad, 0), upper_right = byte(quad, 8), lower_left = byte(quad, 16);
        const Floats lower_right = to_floats((Ints)(quad >> 24));
        const Floats upper = upper_left + fc * (upper_right - upper_left);
        const Floats lower = lower_left + fc * (lower_right - lower_left);
        const Floats s = upper + fl * (lower - upper);
        const Floats ws = g.weight[k] * s;
        sums.values += ws;
        sums.squares += ws * s;
        sums.products += g.weighted[k] * s;
    }
}

template <bool Geometry>
Floats evaluate(const Problem& p, const Group& g, int j, const Plane& plane) {
    const Source& source = p.sources[j];
    const View& v = source.view;
    Floats column[5], line[5], centre[3];
    Ints seen = Ints{} - 1;
    for (int k = 0; k < 5; ++k) {
        const Floats inverse = plane.at(g.ray_x[k], g.ray_y[k]);
        Floats point[3];
        for (int i = 0; i < 3; ++i) point[i] = g.base[j][k][i] + source.translation[i] * inverse;
        if (k == 0) std::memcpy(centre, point, sizeof point);
        project(v, point, column[k], line[k], seen);
    }
    seen &= (column[0] > 0.0f) & (column[0] < float(v.width)) & (line[0] > 0.0f) & (line[0] < float(v.height));
    int any = 0;
    for (int i = 0; i < kLanes; ++i) any |= seen[i];
    const Floats worst = floats(kWorst + (Geometry ? p.geometry_weight * p.geometry_limit : 0));
    if (!any) return worst;

    const Floats column_x = (column[2] - column[1]) * g.across, line_x = (line[2] - line[1]) * g.across;
    const Floats column_y = (column[4] - column[3]) * g.down, line_y = (line[4] - line[3]) * g.down;
    const Floats column_0 = choose(seen, column[0] - 0.5f, Floats{});
    const Floats line_0 = choose(seen, line[0] - 0.5f, Floats{});
    const float last_column = float(v.width - 1), last_line = float(v.height - 1);
    // The window's corners: where all are inside, no sample has to be kept inside.
    const float reach = float(p.radius);
    const Floats wide = reach * (magnitude(column_x) + magnitude(column_y));
    const Floats high = reach * (magnitude(line_x) + magnitude(line_y));
    const Ints outside = (column_0 - wide < 0.0f) | (column_0 + wide > last_column) | (line_0 - high < 0.0f) |
                         (line_0 + high > last_line);
    int beyond = 0;
    for (int i = 0; i < kLanes; ++i) beyond |= outside[i];
    Sums sums;
    if (beyond)
        correlate<true>(p, g, v, column_0, line_0, column_x, line_x, column_y, line_y, sums);
    else
        correlate<false>(p, g, v, column_0, line_0, column_x, line_x, column_y, line_y, sums);
    const Floats sum = sums.values, squares = sums.squares, products = sums.products;
    const Floats mean = sum * g.total;
    const Floats variance = squares * g.total - mean * mean + p.grey_noise;
    const Floats covariance = products * g.total - mean * g.mean;
    Floats cost = 1.0f - covariance / root(larger(variance * g.variance, floats(1e-6f)));
    if (Geometry) {
        // The source's own depth there, seen from the reference: how many pixels from where we started?
        const Ints at = to_ints(clamp(line_0 + 0.5f, 0, last_line)) * v.width +
                        to_ints(clamp(column_0 + 0.5f, 0, last_column));
        const Floats inverse = gather_floats(v.inverse_depth, at);
        const Ints known = inverse > 0.0f;
        const Floats depth = 1.0f / choose(known, inverse, floats(1));
        // Our pixel's ray in the source, at the depth that the source has there.
        const float* r = source.rotation;
        const float* t = source.translation;
        const Floats over = depth / choose(seen, centre[2], floats(1));
        Floats q[3];
        for (int i = 0; i < 3; ++i) q[i] = centre[i] * over - t[i];
        Floats back[3];
        const Floats own = plane.at(g.ray_x[0], g.ray_y[0]);  // so that lengths are shares of our own depth
        for (int i = 0; i < 3; ++i) back[i] = (r[i] * q[0] + r[3 + i] * q[1] + r[6 + i] * q[2]) * own;
        Floats bc, bl, hc, hl;
        Ints fine = seen & known;
        project(p.reference, back, bc, bl, fine);
        const Floats home[3] = {g.ray_x[0], g.ray_y[0], floats(1)};
        Ints ignored = fine;
        project(p.reference, home, hc, hl, ignored);
        const Floats error = root((bc - hc) * (bc - hc) + (bl - hl) * (bl - hl));
        cost += p.geometry_weight * choose(fine, smaller(error, floats(p.geometry_limit)), floats(p.geometry_limit));
    }
    return choose(seen, smaller(cost, worst), worst);
}

inline Plane plane_at(const Problem& p, const Ints& pixel) {
    const int size = p.reference.height * p.reference.width;
    return {gather_floats(p.planes, pixel), gather_floats(p.planes + size, pixel),
            gather_floats(p.planes + 2 * size, pixel)};
}

inline void put(const Problem& p, const Group& g, const Plane& plane, Floats cost) {
    const int size = p.reference.height * p.reference.width;
    for (int i = 0; i < g.count; ++i) {
        const int at = g.pixel[i];
        p.planes[at] = plane.a[i];
        p.planes[size + at] = plane.b[i];
        p.planes[2 * size + at] = plane.c[i];
        p.cost[at] = cost[i];
    }
}

// Mean of the best two.
inline Floats best_two(const Floats* costs, int count) {
    if (count == 1) return costs[0];
    Floats first = smaller(costs[0], costs[1]), second = larger(costs[0], costs[1]);
    for (int j = 2; j < count; ++j) {
        second = smaller(second, larger(first, costs[j]));
        first = smaller(first, costs[j]);
    }
    return (first + second) * 0.5f;
}

// For each of eight regions around a pixel, its pixel of the other colour with the least cost: four V shapes close by,
// four strips farther away.
struct Pattern {
    int count[kNeighbours] = {};
    int dx[kNeighbours][12] = {}, dy[kNeighbours][12] = {};

    constexpr Pattern() {
        for (int side = 0; side < 4; ++side) {
            int near = 0, far = 0;
            auto add = [&](int region, int& n, int ahead, int aside) {
                const int turned[4][2] = {{aside, -ahead}, {ahead, aside}, {aside, ahead}, {-ahead, aside}};
                dx[region][n] = turned[side][0];
                dy[region][n] = turned[side][1];
                ++n;
            };
            add(side, near, 1, 0);
            for (int step = 1; step <= 3; ++step) {
                add(side, near, 1 + step, step);
                add(side, near, 1 + step, -step);
            }
            for (int step = 0; step < 11; ++step) add(4 + side, far, 3 + 2 * step, 0);
            count[side] = near;
            count[4 + side] = far;
        }
    }
};

constexpr Pattern pattern;  // by the compiler: loading the library must not run an instruction set

inline Ints best_of_region(const Problem& p, const Group& g, int region) {
    const int width = p.reference.width, height = p.reference.height;
    Ints found = g.pixel;
    for (int i = 0; i < g.count; ++i) {
        float least = 1e9f;
        const int column = g.x + 2 * i;
        for (int k = 0; k < pattern.count[region]; ++k) {
            const int x = column + pattern.dx[region][k], y = g.y + pattern.dy[region][k];
            if (x < 0 || y < 0 || x >= width || y >= height) continue;
            const float cost = p.cost[y * width + x];
            if (cost < least) {
                least = cost;
                found[i] = y * width + x;
            }
        }
    }
    return found;
}

template <bool Geometry>
void improve_group(const Problem& p, const Group& g, int iteration) {
    const int sources = p.source_count;
    Plane planes[kNeighbours + 1];
    Ints usable[kNeighbours + 1];
    Floats costs[kNeighbours + 1][kMostSources];
    // Far planes help while most are wrong; later, those close by do.
    const int regions = p.wild ? kNeighbours : kNeighbours / 2;
    for (int i = 0; i <= regions; ++i) {
        planes[i] = plane_at(p, i < regions ? best_of_region(p, g, i) : g.pixel);
        const Floats inverse = planes[i].at(g.ray_x[0], g.ray_y[0]);
        usable[i] = (inverse >= p.least_inverse) & (inverse <= p.most_inverse);
        for (int j = 0; j < sources; ++j) costs[i][j] = evaluate<Geometry>(p, g, j, planes[i]);
    }
    // A neighbour counts by how well the planes around here do in it: where it does not see the surface, none does.
    Floats shares[kMostSources];
    Floats all{};
    for (int j = 0; j < sources; ++j) {
        shares[j] = floats(1e-4f);
        for (int i = 0; i <= regions; ++i) {
            const Floats c = costs[i][j] * (1.0f / 0.3f);
            const Floats fit = 1.0f / (1.0f + c * c * c * c);
            shares[j] += fit;
        }
        shares[j] *= shares[j];
        all += shares[j];
    }
    for (int j = 0; j < sources; ++j) shares[j] /= all;
    auto joined = [&](const Floats* of) {
        Floats sum{};
        for (int j = 0; j < sources; ++j) sum += shares[j] * of[j];
        return sum;
    };
    Plane best = planes[regions];
    Floats least = choose(usable[regions], joined(costs[regions]), floats(1e9f));
    for (int i = 0; i < regions; ++i) {
        const Floats cost = joined(costs[i]);
        const Ints better = usable[i] & (cost < least);
        least = choose(better, cost, least);
        best = choose(better, planes[i], best);
    }
    auto attempt = [&](const Plane& plane, Ints fine) {
        const Floats inverse = plane.at(g.ray_x[0], g.ray_y[0]);
        fine &= (inverse >= p.least_inverse) & (inverse <= p.most_inverse);
        Floats of[kMostSources];
        for (int j = 0; j < sources; ++j) of[j] = evaluate<Geometry>(p, g, j, plane);
        const Floats cost = joined(of);
        const Ints better = fine & (cost < least);
        least = choose(better, cost, least);
        best = choose(better, plane, best);
    };
    Draws draws(p.seed, iteration, g.pixel);
    const Floats x = g.ray_x[0], y = g.ray_y[0];
    // Steps of all sizes: halved up to nine times.
    auto step = [&](float most) {
        const Floats size = halved(to_ints(draws.uniform() * 10.0f));
        return size * draws.symmetric() * most;
    };
    auto turned = [&](Floats inverse, Floats most, Ints& fine) {
        const Floats length = root(best.a * best.a + best.b * best.b + best.c * best.c) * most;
        const Floats nx = best.a + length * draws.symmetric(), ny = best.b + length * draws.symmetric(),
                     nz = best.c + length * draws.symmetric();
        return through(nx, ny, nz, x, y, inverse, fine);
    };
    const Ints all_fine = Ints{} - 1;
    attempt(best.times(1.0f + step(0.1f)), all_fine);
    {
        Ints fine = all_fine;
        const Floats size = halved(to_ints(draws.uniform() * 4.0f));
        const Plane plane = turned(best.at(x, y), size * 0.5f, fine);
        attempt(plane, fine);
    }
    {
        Ints fine = all_fine;
        const Floats inverse = best.at(x, y) * (1.0f + step(0.05f));
        const Floats size = halved(to_ints(draws.uniform() * 4.0f));
        const Plane plane = turned(inverse, size * 0.5f, fine);
        attempt(plane, fine);
    }
    if (p.wild) {
        const Floats inverse = p.least_inverse + (p.most_inverse - p.least_inverse) * draws.uniform();
        attempt(best.times(inverse / best.at(x, y)), all_fine);
        const Floats nx = draws.symmetric(), ny = draws.symmetric(), nz = draws.symmetric();
        Ints fine = all_fine;
        const Plane plane = through(nx, ny, nz, x, y, best.at(x, y), fine);
        attempt(plane, fine);
    }
    put(p, g, best, least);
}

template <class Body>
void for_rows(int rows, int threads, const Body& body) {
    std::atomic<int> next{0};
    auto work = [&] {
        for (int row; (row = next.fetch_add(1)) < rows;) body(row);
    };
    std::vector<std::thread> others;
    try {
        for (int i = 1; i < std::min(threads, rows); ++i) others.emplace_back(work);
    } catch (const std::exception&) {
        // no thread more can be had: those that run do all rows
    }
    work();
    for (std::thread& thread : others) thread.join();
}

bool geometric(const Problem& p) { return p.geometry_weight > 0; }

template <class Body>
void for_groups(const Problem& p, int row, int start, const Body& body) {
    Group group;
    for (int x = start; x < p.reference.width; x += 2 * kLanes) {
        group.load(p, row, x);
        body(group);
    }
}

void score(const Problem& p, float* costs, int threads) {
    const int size = p.reference.height * p.reference.width;
    for_rows(p.reference.height, threads, [&](int row) {
        for (int start = 0; start < 2; ++start)
            for_groups(p, row, start, [&](const Group& g) {
                const Plane plane = plane_at(p, g.pixel);
                for (int j = 0; j < p.source_count; ++j) {
                    const Floats cost = geometric(p) ? evaluate<true>(p, g, j, plane) : evaluate<false>(p, g, j, plane);
                    for (int i = 0; i < g.count; ++i) costs[j * size + g.pixel[i]] = cost[i];
                }
            });
    });
}

void rate(const Problem& p, int threads) {
    for_rows(p.reference.height, threads, [&](int row) {
        for (int start = 0; start < 2; ++start)
            for_groups(p, row, start, [&](const Group& g) {
                const Plane plane = plane_at(p, g.pixel);
                Floats costs[kMostSources];
                for (int j = 0; j < p.source_count; ++j)
                    costs[j] = geometric(p) ? evaluate<true>(p, g, j, plane) : evaluate<false>(p, g, j, plane);
                put(p, g, plane, best_two(costs, p.source_count));
            });
    });
}

void improve(const Problem& p, int iteration, int colour, int threads) {
    for_rows(p.reference.height, threads, [&](int row) {
        for_groups(p, row, (row + colour) & 1, [&](const Group& g) {
            if (geometric(p))
                improve_group<true>(p, g, iteration);
            else
                improve_group<false>(p, g, iteration);
        });
    });
}

}  // namespace
