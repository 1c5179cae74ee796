// What the sanitizers watch: whole layers over exact allocations, and pools under several callers. Knows no Python.
//
// Every instruction set of this machine runs layers of odd sizes, in each weight and cache format, on decode steps, short and
// long chunks of several requests; one thread and five must agree bit by bit. Prints what failed; exit code 1 then.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels.h"
#include "layer.h"
#include "pack.h"
#include "pool.h"

using namespace dsv;

namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("failed: %s\n", what.c_str());
  ++failures;
}

std::mt19937 generator(1);

float number() { return std::normal_distribution<float>()(generator); }

std::uint16_t bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

using Bytes = std::unique_ptr<std::uint8_t[]>;  // exactly as long as asked for: a byte too far is seen

struct Model {  // a layer and what it points to
  Layer layer;
  std::vector<Bytes> memory;
  std::vector<std::unique_ptr<float[]>> vectors;

  std::uint8_t* bytes(std::size_t size) {
    memory.push_back(std::make_unique<std::uint8_t[]>(size));
    return memory.back().get();
  }
  float* values(int size, float around, float spread) {
    vectors.push_back(std::make_unique<float[]>(static_cast<std::size_t>(size)));
    for (int i = 0; i < size; ++i) vectors.back()[i] = around + spread * number();
    return vectors.back().get();
  }
  Rows rows(int count, int cols, Format format, int group) {
    Rows from{nullptr, nullptr, nullptr, count, cols, format, group, 16};
    const int groups = group ? (cols + group - 1) / group : 0;
    const std::size_t all = static_cast<std::size_t>(count) * cols;
    if (format == Format::bf16) {
      std::uint8_t* codes = bytes(2 * all);
      for (std::size_t i = 0; i < all; ++i) {
        const std::uint16_t value = bf16(number() / std::sqrt(static_cast<float>(cols)));
        std::memcpy(codes + 2 * i, &value, sizeof value);
      }
      from.codes = codes;
      return from;
    }
    const std::size_t size = format == Format::int4 ? static_cast<std::size_t>(count) * ((cols + 1) / 2) : all;
    std::uint8_t* codes = bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
      codes[i] = static_cast<std::uint8_t>(generator());
      if (format == Format::fp8 && (codes[i] & 0x7f) == 0x7f) codes[i] = 0;
    }
    from.codes = codes;
    if (format == Format::fp8) {
      const int blocks = (count + 15) / 16 * groups;
      auto* scales = reinterpret_cast<float*>(bytes(sizeof(float) * static_cast<std::size_t>(blocks)));
      for (int i = 0; i < blocks; ++i) scales[i] = 0.01f / std::sqrt(static_cast<float>(cols));
      from.scale = reinterpret_cast<std::uint8_t*>(scales);
      return from;
    }
    const std::size_t scales = static_cast<std::size_t>(count) * groups;
    std::uint8_t* scale = bytes(2 * scales);
    std::uint8_t* zero = bytes(2 * scales);
    const std::uint16_t step = bf16((format == Format::int8 ? 0.02f : 0.2f) / std::sqrt(static_cast<float>(cols)));
    const std::uint16_t seven = 0x4700;  // 7 as half precision
    for (std::size_t i = 0; i < scales; ++i) {
      std::memcpy(scale + 2 * i, &step, sizeof step);
      std::memcpy(zero + 2 * i, &seven, sizeof seven);
    }
    from.scale = scale;
    if (format == Format::int4) from.zero = zero;
    return from;
  }
  Panels panels(int count, int cols, Format format, int group) { return stack(1, count, cols, format, group).first; }
  PanelStack stack(int copies, int count, int cols, Format format, int group) {
    Panels shape{nullptr, count, cols, format, group};
    const std::size_t size = static_cast<std::size_t>(shape.num_panels()) * shape.panel_bytes();
    std::uint8_t* to = bytes(size * static_cast<std::size_t>(copies));
    for (int copy = 0; copy < copies; ++copy) pack(rows(count, cols, format, group), 0, shape, to + size * copy);
    shape.data = to;
    return {shape};
  }
};

std::unique_ptr<Model> random_model(Format format) {
  auto model = std::make_unique<Model>();
  Layer& layer = model->layer;
  const int group = format == Format::bf16 ? 0 : 32, width = 37;
  layer.hidden = 53;
  layer.heads = 3;
  layer.nope = 16;
  layer.rope = 6;
  layer.v = 32;
  layer.rank = 75;
  layer.eps = 1e-5f;
  layer.softmax_scale = 0.3f;
  layer.num_experts = 12;
  layer.top_k = 3;
  layer.num_groups = 4;
  layer.kept_groups = 2;
  layer.input_norm = model->values(layer.hidden, 1.0f, 0.1f);
  layer.kv_a_norm = model->values(layer.rank, 1.0f, 0.1f);
  layer.post_attention_norm = model->values(layer.hidden, 1.0f, 0.1f);
  layer.router = model->values(layer.num_experts * layer.hidden, 0.0f, 0.2f);
  layer.correction_bias = model->values(layer.num_experts, 0.0f, 0.1f);
  layer.q = model->panels(layer.heads * (layer.nope + layer.rope), layer.hidden, format, group);
  layer.kv_a = model->panels(layer.rank + layer.rope, layer.hidden, format, group);
  layer.o = model->panels(layer.hidden, layer.heads * layer.v, format, group);
  layer.kv_b = {nullptr, layer.nope, layer.v, layer.rank, format, group};
  std::uint8_t* heads = model->bytes(layer.kv_b.head_bytes() * static_cast<std::size_t>(layer.heads));
  pack_heads(model->rows(layer.heads * (layer.nope + layer.v), layer.rank, format, group), layer.heads, layer.kv_b, heads);
  layer.kv_b.data = heads;
  layer.dense = {model->panels(width, layer.hidden, format, group), model->panels(width, layer.hidden, format, group),
                 model->panels(layer.hidden, width, format, group)};
  layer.gates = model->stack(layer.num_experts, width, layer.hidden, format, group);
  layer.ups = model->stack(layer.num_experts, width, layer.hidden, format, group);
  layer.downs = model->stack(layer.num_experts, layer.hidden, width, format, group);
  return model;
}

constexpr int kBlockSize = 16, kBlocks = 24;

struct Request {
  std::vector<std::int64_t> blocks;
  int length = 0;  // tokens that the cache holds
};

// The layer's outputs of all steps, one after another: prompts of several lengths, then decode steps of all at once.
std::vector<float> run_steps(const Layer& layer, const Kernels& kernels, int threads, CacheFormat cache) {
  Pool pool(threads);
  const Engine engine{kernels, pool};
  const std::size_t bytes = latent_bytes(cache, layer.rank + layer.rope) * kBlockSize * kBlocks;
  const auto pages = std::make_unique<std::uint8_t[]>(bytes);
  std::memset(pages.get(), 0xff, bytes);  // no number in any format
  std::vector<Request> requests{{{5, 3, 20, 21, 22, 0, 1, 2, 4, 6}}, {{7}}, {{9, 23, 8}}};
  std::mt19937 values(2);
  std::vector<float> outputs;
  for (const std::vector<int>& lengths : {std::vector<int>{130, 1, 5}, {1, 1, 1}, {0, 3, 30}, {1, 1, 1}, {10, 0, 1}}) {
    Step step;
    step.block_size = kBlockSize;
    step.cache = cache;
    std::vector<std::int64_t> slots;
    std::vector<float> rotation;
    for (std::size_t r = 0; r < requests.size(); ++r) {
      Request& request = requests[r];
      if (lengths[r] == 0) continue;
      step.segments.push_back({step.num_rows, lengths[r], request.length, request.blocks.data()});
      for (int i = 0; i < lengths[r]; ++i, ++request.length) {
        slots.push_back(request.blocks[request.length / kBlockSize] * kBlockSize + request.length % kBlockSize);
        for (int j = 0; j < layer.rope / 2; ++j) {
          rotation.push_back(std::cos(0.1f * static_cast<float>(request.length * (j + 1))));
          rotation.push_back(std::sin(0.1f * static_cast<float>(request.length * (j + 1))));
        }
      }
      step.num_rows += lengths[r];
    }
    step.rotation = rotation.data();
    step.slots = slots.data();
    const std::size_t size = static_cast<std::size_t>(step.num_rows) * layer.hidden;
    const auto x = std::make_unique<float[]>(size);
    for (std::size_t i = 0; i < size; ++i) x[i] = std::normal_distribution<float>()(values);
    run_layer(engine, layer, step, pages.get(), x.get());
    outputs.insert(outputs.end(), x.get(), x.get() + size);
  }
  return outputs;
}

void layers_agree() {
  for (const Format format : {Format::bf16, Format::fp8, Format::int8, Format::int4}) {
    const auto model = random_model(format);
    for (const Kernels* kernels : supported_kernels())
      for (const CacheFormat cache : {CacheFormat::float32, CacheFormat::bf16, CacheFormat::fp8}) {
        const std::string name = std::string(kernels->name) + ", weights " + std::to_string(static_cast<int>(format)) +
                                 ", cache " + std::to_string(static_cast<int>(cache));
        const std::vector<float> one = run_steps(model->layer, *kernels, 1, cache);
        bool finite = true;
        for (const float value : one) finite = finite && std::isfinite(value);
        expect(finite, name + ": a value is no number");
        expect(one == run_steps(model->layer, *kernels, 5, cache), name + ": five threads differ from one");
      }
  }
}

// Short jobs one after another, some after a pause in which the threads fall asleep, from several callers with a pool each.
void pools_lose_nothing() {
  std::vector<std::thread> callers;
  std::vector<long> sums(4, 0);
  for (std::size_t caller = 0; caller < sums.size(); ++caller)
    callers.emplace_back([&sums, caller] {
      for (int life = 0; life < 5; ++life) {
        Pool pool(3);
        for (int job = 0; job < 200; ++job) {
          std::vector<long> parts(static_cast<std::size_t>(job % 9), 0);
          pool.run(job % 9, [&](int unit, int) { parts[static_cast<std::size_t>(unit)] = unit + 1; });
          for (const long part : parts) sums[caller] += part;
          if (job % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      }
    });
  for (std::thread& caller : callers) caller.join();
  long expected = 0;
  for (int job = 0; job < 200; ++job) expected += (job % 9) * (job % 9 + 1) / 2;
  for (const long sum : sums) expect(sum == 5 * expected, "a pool's unit did not run once");
}

}  // namespace

int main() {
  layers_agree();
  pools_lose_nothing();
  std::printf("%s\n", failures == 0 ? "clean" : "not clean");
  return failures == 0 ? 0 : 1;
}
