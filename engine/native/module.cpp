// What Python sees: threads, packing, a layer's description, and running layers. Tensors cross as checked addresses;
// the caller keeps them alive. Every call that computes gives the GIL up.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernels.h"
#include "layer.h"
#include "pack.h"
#include "pool.h"

namespace nb = nanobind;
using namespace dsv;

namespace {

using Address = std::uintptr_t;
using Matrix = std::tuple<Address, int, int, int, int>;  // panels: address, rows, columns, format, group
using Source = std::tuple<Address, Address, Address, int, int, int, int, int>;  // of Rows, in its order
using released = nb::call_guard<nb::gil_scoped_release>;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Panels panels(const Matrix& matrix) {
  const auto [address, rows, cols, format, group] = matrix;
  return {at<const std::uint8_t>(address), rows, cols, static_cast<Format>(format), group};
}

Matrix described(const Panels& panels) {
  return {reinterpret_cast<Address>(panels.data), panels.rows, panels.cols, static_cast<int>(panels.format), panels.group};
}

Rows rows_of(const Source& source) {
  const auto [codes, scale, zero, rows, cols, format, group, block_rows] = source;
  return {at<const std::uint8_t>(codes), at<const std::uint8_t>(scale), at<const std::uint8_t>(zero), rows, cols,
          static_cast<Format>(format), group, block_rows};
}

void embed(const Kernels& kernels, const Panels& table, const std::int64_t* ids, int count, float* out) {
  std::vector<float> panel(static_cast<std::size_t>(table.cols) * 16);
  for (int i = 0; i < count; ++i, out += table.cols) {
    kernels.widen_panel(table, static_cast<int>(ids[i] / 16), panel.data());
    for (int k = 0; k < table.cols; ++k) out[k] = panel[16 * static_cast<std::size_t>(k) + ids[i] % 16];
  }
}

struct Threads {
  Threads(int count, const std::string& isa, bool exact)
      : pool(count), engine{exact ? exact_kernels(table(isa)) : table(isa), pool, exact} {}
  static const Kernels& table(const std::string& isa) { return isa.empty() ? chosen_kernels() : kernels_named(isa); }
  Pool pool;
  Engine engine;
};

using Segments = std::vector<std::tuple<int, int, int, Address>>;  // row, length, start, address of the block ids

Step step_of(int num_rows, Address rotation, Address slots, const Segments& segments, int block_size, int cache) {
  Step step{num_rows, at<const float>(rotation), at<const std::int64_t>(slots), {}, block_size, static_cast<CacheFormat>(cache)};
  for (const auto& [row, length, start, blocks] : segments)
    step.segments.push_back({row, length, start, at<const std::int64_t>(blocks)});
  return step;
}

}  // namespace

#define DSV_PANELS(FIELD)                                                                       \
  def_prop_rw(                                                                                  \
      #FIELD,                                                                                   \
      [](const Layer& layer) {                                                                  \
        return described(layer.FIELD);                                                          \
      },                                                                                        \
      [](Layer& layer, const Matrix& matrix) { layer.FIELD = panels(matrix); })
#define DSV_STACK(FIELD)                                                                        \
  def_prop_rw(                                                                                  \
      #FIELD,                                                                                   \
      [](const Layer& layer) {                                                                  \
        return described(layer.FIELD.first);                                                    \
      },                                                                                        \
      [](Layer& layer, const Matrix& matrix) { layer.FIELD.first = panels(matrix); })
#define DSV_VECTOR(FIELD)                                                              \
  def_prop_rw(                                                                         \
      #FIELD, [](const Layer& layer) { return reinterpret_cast<Address>(layer.FIELD); }, \
      [](Layer& layer, Address address) { layer.FIELD = at<const float>(address); })

NB_MODULE(_native, m) {
  m.attr("INTERFACE") = 5;  // engine/kernels/extension.py names the one it needs: change both together
  nb::set_leak_warnings(false);  // at exit the engine's thread may still hold its layers
  m.def(
      "isa", [] { return std::string(chosen_kernels().name); },
      "The instruction set in use. ValueError: DSV3CHAT_ISA names one that is not known or cannot be run.");
  m.def(
      "isas",
      [] {
        std::vector<std::string> names;
        for (const Kernels* kernels : supported_kernels()) names.push_back(kernels->name);
        return names;
      },
      "The instruction sets that this processor runs, best first.");
  m.def(
      "packed_bytes",
      [](int rows, int cols, int format, int group) {
        const Panels shape{nullptr, rows, cols, static_cast<Format>(format), group};
        return shape.num_panels() * shape.panel_bytes();
      },
      "Bytes of a (rows, cols) matrix in panels, scales and padding included.");
  m.def(
      "head_bytes",
      [](int nope, int v, int rank, int format, int group) {
        return HeadPanels{nullptr, nope, v, rank, static_cast<Format>(format), group}.head_bytes();
      },
      "Bytes of one head of kv_b.");
  m.def(
      "pack",
      [](const Source& source, Address to) {
        const Rows from = rows_of(source);
        pack(from, 0, {nullptr, from.rows, from.cols, from.format, from.group}, at<std::uint8_t>(to));
      },
      released(), "A matrix in rows to panels.");
  m.def(
      "pack_heads",
      [](const Source& source, int heads, int nope, int v, Address to) {
        const Rows from = rows_of(source);
        pack_heads(from, heads, {nullptr, nope, v, from.cols, from.format, from.group}, at<std::uint8_t>(to));
      },
      released(), "kv_b (heads * (nope + v), rank) in rows to each head's W_UK transposed and W_UV.");

  nb::class_<Threads>(m, "Threads")
      .def(nb::init<int, const std::string&, bool>(), nb::arg("count"), nb::arg("isa") = "", nb::arg("exact") = false)
      .def_prop_ro("count", [](const Threads& threads) { return threads.pool.size(); })
      .def(
          "multiply",
          [](Threads& threads, Address x, int num_rows, const Matrix& weights, Address out) {
            const std::size_t cols = static_cast<std::size_t>(std::get<2>(weights));
            const auto x_rows = row_pointers(at<float>(x), cols, num_rows);
            const auto out_rows =
                row_pointers(at<float>(out), static_cast<std::size_t>(std::get<1>(weights)), num_rows);
            multiply(threads.engine, x_rows.data(), num_rows, {{panels(weights), out_rows.data()}});
          },
          released(), "out = x W^T, float32 rows.")
      .def(
          "embed",
          [](Threads& threads, const Matrix& table, Address ids, int count, Address out) {
            embed(threads.engine.kernels, panels(table), at<const std::int64_t>(ids), count, at<float>(out));
          },
          released(), "Rows of a packed table as float32.")
      .def(
          "attend",
          [](Threads& threads, const Layer& layer, int num_rows, const Segments& segments, int block_size,
             int cache, Address pages, Address q, Address out) {
            const Step step = step_of(num_rows, 0, 0, segments, block_size, cache);
            attend(threads.engine, layer, step, at<void>(pages), at<const float>(q), at<float>(out));
          },
          released(), "Attention alone, of rotated queries.")
      .def(
          "feed_forward",
          [](Threads& threads, const Layer& layer, Address normed, int num_rows, Address x) {
            feed_forward(threads.engine, layer, at<const float>(normed), num_rows, at<float>(x));
          },
          released(), "x += MLP or experts of `normed`.")
      .def(
          "routed_experts",
          [](Threads& threads, const Layer& layer, Address x, int num_rows, Address ids, Address gates, Address out) {
            routed_experts(threads.engine, layer, at<const float>(x), num_rows, at<const std::int64_t>(ids),
                           at<const float>(gates), at<float>(out));
          },
          released(), "out += routed experts of x, ids and gates given.")
      .def(
          "run_layers",
          [](Threads& threads, const std::vector<const Layer*>& layers, int num_rows, Address rotation, Address slots,
             const Segments& segments, int block_size, int cache, const std::vector<Address>& pages, Address x) {
            const Step step = step_of(num_rows, rotation, slots, segments, block_size, cache);
            for (std::size_t i = 0; i < layers.size(); ++i)
              run_layer(threads.engine, *layers[i], step, at<void>(pages.at(i)), at<float>(x));
          },
          released(), "x through the layers in place; the new latents are in the pages afterwards.")
      .def(
          "rms_norm",
          [](Threads& threads, Address x, int num_rows, int size, Address weight, float eps, Address out) {
            for (int row = 0; row < num_rows; ++row) {
              const std::size_t offset = static_cast<std::size_t>(row) * static_cast<std::size_t>(size);
              threads.engine.kernels.rms_norm(at<const float>(x) + offset, at<const float>(weight), eps, size,
                                              at<float>(out) + offset);
            }
          },
          released());

  nb::class_<Layer>(m, "Layer")
      .def(nb::init<>())
      .def_rw("hidden", &Layer::hidden)
      .def_rw("heads", &Layer::heads)
      .def_rw("nope", &Layer::nope)
      .def_rw("rope", &Layer::rope)
      .def_rw("v", &Layer::v)
      .def_rw("rank", &Layer::rank)
      .def_rw("eps", &Layer::eps)
      .def_rw("softmax_scale", &Layer::softmax_scale)
      .def_rw("num_experts", &Layer::num_experts)
      .def_rw("top_k", &Layer::top_k)
      .def_rw("num_groups", &Layer::num_groups)
      .def_rw("kept_groups", &Layer::kept_groups)
      .def_rw("normalise", &Layer::normalise)
      .def_rw("routed_scale", &Layer::routed_scale)
      .DSV_VECTOR(input_norm)
      .DSV_VECTOR(q_a_norm)
      .DSV_VECTOR(kv_a_norm)
      .DSV_VECTOR(post_attention_norm)
      .DSV_VECTOR(router)
      .DSV_VECTOR(correction_bias)
      .DSV_PANELS(q)
      .DSV_PANELS(q_a)
      .DSV_PANELS(q_b)
      .DSV_PANELS(kv_a)
      .DSV_PANELS(o)
      .def_prop_rw(
          "dense", [](const Layer&) { return nb::none(); },
          [](Layer& layer, const std::tuple<Matrix, Matrix, Matrix>& mlp) {
            layer.dense = {panels(std::get<0>(mlp)), panels(std::get<1>(mlp)), panels(std::get<2>(mlp))};
          },
          nb::for_setter(nb::sig("def dense(self, gate_up_down: tuple, /) -> None")))
      .def_prop_rw(
          "kv_b", [](const Layer&) { return nb::none(); },
          [](Layer& layer, const std::tuple<Address, int, int>& heads) {
            const auto [address, format, group] = heads;
            layer.kv_b = {at<const std::uint8_t>(address), layer.nope, layer.v, layer.rank, static_cast<Format>(format), group};
          },
          nb::for_setter(nb::sig("def kv_b(self, address_format_group: tuple[int, int, int], /) -> None")))
      .DSV_STACK(gates)
      .DSV_STACK(ups)
      .DSV_STACK(downs);
}
