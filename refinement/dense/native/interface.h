// What Python hands over. Mirrored in `refinement/dense/native.py`. All arrays are [height][width], row by row.
#pragma once

#include <cstdint>

constexpr int kMostSources = 8;
constexpr int kMostSamples = 64;

// One picture at one size. A ray is (x, y, 1) in the camera's frame, with the distortion taken out.
struct View {
    const uint32_t* quads;       // grey values of a pixel, its right, lower and lower right neighbour, from the low byte
    const float* ray_x;
    const float* ray_y;
    const float* inverse_depth;  // of the last round, for geometric agreement; may be null
    int32_t height, width;
    float focal_x, focal_y, cx, cy, distortion;
};

// A neighbour, and how the reference's frame maps into its frame: rotation * X + translation.
struct Source {
    View view;
    float rotation[9];
    float translation[3];
};

// One reference picture with its planes. A plane (a, b, c) holds the points X with a X + b Y + c Z = 1 in the
// reference's frame: along the ray (x, y, 1) its inverse depth is a x + b y + c.
struct Problem {
    View reference;
    Source sources[kMostSources];
    int32_t source_count;
    // The window: offsets from its centre and their weights; `radius` is the largest offset.
    int32_t sample_count, radius;
    float offset_x[kMostSamples], offset_y[kMostSamples];
    float spatial_weight[kMostSamples];
    float grey_weight[256];      // by difference to the centre's grey value
    float grey_noise;            // variance that is added to both windows, grey levels squared
    float least_inverse, most_inverse;
    float geometry_weight;       // of the reprojection error, per pixel of it
    float geometry_limit;        // pixels of the reprojection error at most
    uint32_t seed;
    int32_t wild;                // also tries depths and normals drawn without regard to those found
    float* planes;               // [3][height][width]
    float* cost;
};

// Costs of the planes as they are: `costs` [source_count][height][width].
using ScorePlanes = void (*)(const Problem&, float* costs, int threads);
// Costs of the planes as they are, best two neighbours' mean, into `cost`.
using RatePlanes = void (*)(const Problem&, int threads);
// One sweep over the pixels of one colour of the checkerboard: neighbours' planes, then changed ones.
using ImprovePlanes = void (*)(const Problem&, int iteration, int colour, int threads);

struct Functions {
    ScorePlanes score;
    RatePlanes rate;
    ImprovePlanes improve;
};
