// Products of one x with several matrices as one job over the threads. Knows no layer.
#include <algorithm>

#include "layer.h"

namespace dsv {

std::vector<float*> row_pointers(float* base, std::size_t stride, int count) {
  std::vector<float*> rows(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) rows[i] = base + stride * i;
  return rows;
}

Inputs::Inputs(const Engine& engine, const float* const* x, int num_rows, const Panels& w, bool in_job)
    : kernels_(&engine.kernels), x_(x), num_rows_(num_rows), like_(w) {
  const std::size_t bytes = kernels_->prepared_bytes(num_rows, w);
  if (bytes == 0) return;
  const std::size_t room = bytes * static_cast<std::size_t>((num_rows + 15) / 16 * 16);
  if (engine.exact && has_integer_codes(w.format)) rest_ = room;
  prepared_.resize(room + rest_);
  const auto one = [&](int row, int) {
    std::uint8_t* to = prepared_.data() + bytes * static_cast<std::size_t>(row);
    if (rest_ == 0) return kernels_->prepare(x[row], num_rows, w, to, nullptr);
    std::vector<float> rest(static_cast<std::size_t>(w.cols));
    kernels_->prepare(x[row], num_rows, w, to, rest.data());
    kernels_->prepare(rest.data(), num_rows, w, to + rest_, nullptr);
  };
  if (in_job || num_rows <= 4)  // few are not worth a job
    for (int row = 0; row < num_rows; ++row) one(row, 0);
  else
    engine.pool.run(num_rows, one);
}

bool Inputs::serves(const Panels& w) const {
  return w.format == like_.format && w.group == like_.group && w.cols == like_.cols;
}

void Inputs::multiply(const Panels& w, int first, int last, float* const* out, bool accumulate) const {
  if (prepared_.empty()) return kernels_->matmul(x_, num_rows_, w, first, last, out, accumulate);
  if (rest_ == 0) return kernels_->matmul_prepared(prepared_.data(), num_rows_, w, first, last, out, accumulate);
  for (int p = first; p < last; p += 2) {  // the second row finds the panels in a cache
    const int end = std::min(p + 2, last);
    kernels_->matmul_prepared(prepared_.data(), num_rows_, w, p, end, out, accumulate);
    kernels_->matmul_prepared(prepared_.data() + rest_, num_rows_, w, p, end, out, true);
  }
}

void matmul(const Engine& engine, const float* const* x, int num_x, const Panels& w, int first, int last, float* const* out,
            bool accumulate) {
  if (!engine.exact) return engine.kernels.matmul(x, num_x, w, first, last, out, accumulate);
  Inputs(engine, x, num_x, w, true).multiply(w, first, last, out, accumulate);
}

void multiply(const Engine& engine, const float* const* x, int num_rows, const std::vector<Product>& products) {
  struct Unit {
    int product, input, first, last;
  };
  int panels = 0;
  for (const Product& product : products) panels += product.weights.num_panels();
  // large enough that taking one costs nothing, small enough that the threads end together
  const int share = panels / (engine.pool.size() * 6);
  // and, with many rows, so that several pairs of panels meet the rows while a cache keeps them
  const int group = num_rows > 4 ? std::clamp(share / 2 * 2, 2, 8) : share >= 8 ? 8 : share >= 4 ? 4 : share >= 2 ? 2 : 1;
  std::vector<Inputs> inputs;
  std::vector<Unit> units;
  units.reserve(static_cast<std::size_t>(panels / group) + products.size());
  for (int index = 0; index < static_cast<int>(products.size()); ++index) {
    const Panels& weights = products[index].weights;
    int input = 0;
    while (input < static_cast<int>(inputs.size()) && !inputs[input].serves(weights)) ++input;
    if (input == static_cast<int>(inputs.size())) inputs.emplace_back(engine, x, num_rows, weights);
    for (int first = 0, count = weights.num_panels(); first < count; first += group)
      units.push_back({index, input, first, std::min(first + group, count)});
  }
  engine.pool.run(static_cast<int>(units.size()), [&](int index, int) {
    const Unit& unit = units[index];
    const Product& product = products[unit.product];
    inputs[unit.input].multiply(product.weights, unit.first, unit.last, product.out, product.accumulate);
  });
}

}  // namespace dsv
