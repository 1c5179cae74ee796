// The feed-forward half of a layer: the gate's choice, routed and shared experts as two jobs. Knows no attention.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "layer.h"

namespace dsv {
namespace {

struct Expert {  // one MLP of this step and the rows that visit it
  Mlp weights;
  std::vector<const float*> x;
  std::vector<float> gates;
  std::vector<float*> h;    // (rows, intermediate), gate's half becomes silu(gate) * up * weight
  std::vector<float*> up;   // (rows, intermediate)
  std::vector<float*> out;  // rows of the residual
};

// h of every expert, then its way down, in two jobs over all of them. Each panel of `out` belongs to one unit, which
// takes the experts in their order: so no two threads write one row's values, and each row is summed in one order.
void run_experts(const Engine& engine, std::vector<Expert>& experts, int out_panels, bool few) {
  struct Unit {
    int expert, first, last;
  };
  std::vector<Unit> units;
  int panels = 0;
  for (const Expert& expert : experts) panels += expert.weights.gate.num_panels();
  const int many = std::clamp(panels / (engine.pool.size() * 6) / 2 * 2, 2, 8);  // see `multiply`
  for (int e = 0; e < static_cast<int>(experts.size()); ++e) {
    const int count = experts[e].weights.gate.num_panels();
    const int group = few ? std::min(4, std::max(1, count / 4)) : many;
    for (int first = 0; first < count; first += group) units.push_back({e, first, std::min(first + group, count)});
  }
  std::vector<Inputs> to_gate, to_up, to_down;
  for (const Expert& expert : experts) {
    const int num_rows = static_cast<int>(expert.x.size());
    to_gate.emplace_back(engine, expert.x.data(), num_rows, expert.weights.gate);
  }
  const auto together = [&](const Expert& expert) { return to_gate[&expert - experts.data()].serves(expert.weights.up); };
  if (!std::all_of(experts.begin(), experts.end(), together))
    for (const Expert& expert : experts)
      to_up.emplace_back(engine, expert.x.data(), static_cast<int>(expert.x.size()), expert.weights.up);
  engine.pool.run(static_cast<int>(units.size()), [&](int index, int) {
    const auto [e, first, last] = units[index];
    Expert& expert = experts[e];
    const int num_rows = static_cast<int>(expert.x.size());
    to_gate[e].multiply(expert.weights.gate, first, last, expert.h.data(), false);
    (to_up.empty() ? to_gate : to_up)[e].multiply(expert.weights.up, first, last, expert.up.data(), false);
    const int begin = 16 * first, end = std::min(16 * last, expert.weights.gate.rows);
    for (int row = 0; row < num_rows; ++row)
      engine.kernels.swiglu(expert.h[row] + begin, expert.up[row] + begin, expert.gates[row], end - begin);
  });
  for (const Expert& expert : experts)
    to_down.emplace_back(engine, expert.h.data(), static_cast<int>(expert.h.size()), expert.weights.down);
  const int share = out_panels / (engine.pool.size() * 4);
  const int group = few ? std::clamp(share, 1, 4) : std::clamp(share / 2 * 2, 2, 8);
  engine.pool.run((out_panels + group - 1) / group, [&](int unit, int) {
    const int first = unit * group, last = std::min(first + group, out_panels);
    for (std::size_t e = 0; e < experts.size(); ++e)
      to_down[e].multiply(experts[e].weights.down, first, last, experts[e].out.data(), true);
  });
}

// The experts that rows of x visit, in the order of their numbers; ids and gates (num_rows, top_k).
void add_visited(const Layer& layer, const float* x, int num_rows, int top_k, const int* ids, const float* gates,
                 float* out, std::vector<Expert>& experts) {
  std::vector<std::vector<int>> visits(static_cast<std::size_t>(layer.num_experts));  // row * top_k + k
  for (int visit = 0; visit < num_rows * top_k; ++visit) visits[ids[visit]].push_back(visit);
  for (int e = 0; e < layer.num_experts; ++e) {
    if (visits[e].empty()) continue;
    Expert expert{{layer.gates.at(e), layer.ups.at(e), layer.downs.at(e)}, {}, {}, {}, {}, {}};
    for (const int visit : visits[e]) {
      const std::size_t at = static_cast<std::size_t>(visit / top_k) * layer.hidden;
      expert.x.push_back(x + at);
      expert.out.push_back(out + at);
      expert.gates.push_back(gates[visit]);
    }
    experts.push_back(std::move(expert));
  }
}

void run_with_scratch(const Engine& engine, std::vector<Expert>& experts, int hidden, bool few) {
  std::size_t values = 0;
  for (const Expert& expert : experts) values += 2 * expert.x.size() * expert.weights.gate.rows;
  std::vector<float> scratch(values);
  float* free = scratch.data();
  for (Expert& expert : experts) {
    const int width = expert.weights.gate.rows, count = static_cast<int>(expert.x.size());
    expert.h = row_pointers(free, width, count);
    free += static_cast<std::size_t>(width) * count;
    expert.up = row_pointers(free, width, count);
    free += static_cast<std::size_t>(width) * count;
  }
  run_experts(engine, experts, (hidden + 15) / 16, few);
}

}  // namespace

void choose_experts(const Layer& layer, float* logits, int* ids, float* gates) {
  const int num_experts = layer.num_experts, size = num_experts / layer.num_groups;
  std::vector<float> biased(static_cast<std::size_t>(num_experts));
  for (int e = 0; e < num_experts; ++e) {
    logits[e] = 1.0f / (1.0f + std::exp(-logits[e]));
    biased[e] = logits[e] + layer.correction_bias[e];
    if (std::isnan(biased[e])) biased[e] = -std::numeric_limits<float>::infinity();  // the gate stays NaN and is seen
  }
  if (layer.kept_groups < layer.num_groups) {
    std::vector<float> group_scores(static_cast<std::size_t>(layer.num_groups));
    for (int g = 0; g < layer.num_groups; ++g) {
      float best = -std::numeric_limits<float>::infinity(), second = best;
      for (int e = g * size; e < (g + 1) * size; ++e) {
        if (biased[e] > best) {
          second = best;
          best = biased[e];
        } else {
          second = std::max(second, biased[e]);
        }
      }
      group_scores[g] = size > 1 ? best + second : best;
    }
    std::vector<int> groups(static_cast<std::size_t>(layer.num_groups));
    std::iota(groups.begin(), groups.end(), 0);
    std::stable_sort(groups.begin(), groups.end(), [&](int a, int b) { return group_scores[a] > group_scores[b]; });
    for (int g = layer.kept_groups; g < layer.num_groups; ++g)
      std::fill_n(biased.begin() + groups[g] * size, size, -std::numeric_limits<float>::infinity());
  }
  std::vector<int> order(static_cast<std::size_t>(num_experts));
  std::iota(order.begin(), order.end(), 0);
  const auto better = [&](int a, int b) { return biased[a] != biased[b] ? biased[a] > biased[b] : a < b; };
  std::partial_sort(order.begin(), order.begin() + layer.top_k, order.end(), better);
  std::sort(order.begin(), order.begin() + layer.top_k);
  float total = 0.0f;
  for (int k = 0; k < layer.top_k; ++k) {
    ids[k] = order[k];
    gates[k] = logits[order[k]];
    total += gates[k];
  }
  const float factor = layer.routed_scale / (layer.normalise ? total + 1e-20f : 1.0f);
  for (int k = 0; k < layer.top_k; ++k) gates[k] *= factor;
}

void feed_forward(const Engine& engine, const Layer& layer, const float* normed, int num_rows, float* x) {
  const int hidden = layer.hidden, top_k = layer.top_k;
  const bool few = num_rows <= 4;
  std::vector<Expert> experts;
  if (layer.dense.gate.data != nullptr) {
    Expert shared{layer.dense, {}, std::vector<float>(static_cast<std::size_t>(num_rows), 1.0f), {}, {}, {}};
    for (int row = 0; row < num_rows; ++row) {
      shared.x.push_back(normed + static_cast<std::size_t>(row) * hidden);
      shared.out.push_back(x + static_cast<std::size_t>(row) * hidden);
    }
    experts.push_back(std::move(shared));
  }
  if (layer.num_experts > 0) {
    std::vector<float> logits(static_cast<std::size_t>(num_rows) * layer.num_experts);
    std::vector<int> ids(static_cast<std::size_t>(num_rows) * top_k);
    std::vector<float> gates(ids.size());
    const int block = std::max(1, layer.num_experts / 4);  // experts of one unit
    const int blocks = (layer.num_experts + block - 1) / block;
    const auto score = [&](int unit, int) {
      const int row = unit / blocks, first = unit % blocks * block;
      for (int e = first; e < std::min(first + block, layer.num_experts); ++e)
        logits[static_cast<std::size_t>(row) * layer.num_experts + e] =
            engine.kernels.dot(normed + static_cast<std::size_t>(row) * hidden,
                               layer.router + static_cast<std::size_t>(e) * hidden, hidden);
    };
    if (static_cast<std::size_t>(num_rows) * layer.num_experts * hidden < 65536)
      for (int unit = 0; unit < num_rows * blocks; ++unit) score(unit, 0);
    else
      engine.pool.run(num_rows * blocks, score);
    for (int row = 0; row < num_rows; ++row)
      choose_experts(layer, logits.data() + static_cast<std::size_t>(row) * layer.num_experts,
                     ids.data() + static_cast<std::size_t>(row) * top_k,
                     gates.data() + static_cast<std::size_t>(row) * top_k);
    add_visited(layer, normed, num_rows, top_k, ids.data(), gates.data(), x, experts);
  }
  run_with_scratch(engine, experts, hidden, few);
}

void routed_experts(const Engine& engine, const Layer& layer, const float* x, int num_rows, const std::int64_t* ids,
                    const float* gates, float* out) {
  const std::vector<int> chosen(ids, ids + static_cast<std::size_t>(num_rows) * layer.top_k);
  std::vector<Expert> experts;
  add_visited(layer, x, num_rows, layer.top_k, chosen.data(), gates, out, experts);
  run_with_scratch(engine, experts, layer.hidden, num_rows <= 4);
}

}  // namespace dsv
