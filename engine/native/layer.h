// A decoder layer of DeepSeek-V3 over packed bf16 weights: what it holds and what a step gives it. Knows no Python.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "pool.h"

namespace dsv {

constexpr float kLatentNormEps = 1e-6f;  // of q_a_norm and kv_a_norm, as DeepSeek's code has it

struct PanelStack {  // matrices of one shape, one after another
  Panels first;
  Panels at(int index) const {
    Panels panels = first;
    panels.data += static_cast<std::size_t>(index) * first.num_panels() * first.panel_bytes();
    return panels;
  }
};

struct Engine;

// kv_b by head: W_UK transposed, (rank, nope), then W_UV, (v, rank); so both forms of attention read it in panels.
//
// W_UK's groups lie along its rank, which transposed are rows. So where the format has groups, its panels hold the bare
// codes (a scale of one, a zero point of zero), and float scales and zero points by (group, nope) follow W_UV:
//     sum_n q[n] (code[n][c] - zero[n][g]) scale[n][g] = sum_n q'[n] code[n][c] - sum_n q'[n] zero[n][g],  q' = q scale
struct HeadPanels {
  const std::uint8_t* data = nullptr;
  int nope = 0, v = 0, rank = 0;
  Format format = Format::bf16;
  int group = 0;

  int num_groups() const { return format == Format::bf16 ? 0 : (rank + group - 1) / group; }
  std::size_t head_bytes() const;
  Panels key_up(int head) const;
  Panels value_up(int head) const;
  const float* key_scales(int head) const;  // (num_groups, nope), then the zero points likewise
  // out (rank) = W_UK^T q, q (nope)
  void absorb(const Engine& engine, int head, const float* q, float* out) const;
  // rows (nope, rank) = W_UK
  void key_rows(const Kernels& kernels, int head, float* rows) const;
};

struct Mlp {
  Panels gate, up, down;
};

struct Layer {
  // sizes
  int hidden = 0, heads = 0, nope = 0, rope = 0, v = 0, rank = 0;
  float eps = 0.0f, softmax_scale = 0.0f;
  // attention: q, or q_a, q_a_norm and q_b where the model has a q_lora
  const float* input_norm = nullptr;
  Panels q, q_a, q_b, kv_a, o;
  const float* q_a_norm = nullptr;
  const float* kv_a_norm = nullptr;
  HeadPanels kv_b;
  // feed-forward: `dense`, or experts with a router; `dense` is then the shared expert, if there is one
  const float* post_attention_norm = nullptr;
  Mlp dense;
  int num_experts = 0, top_k = 0, num_groups = 1, kept_groups = 1;
  bool normalise = true;
  float routed_scale = 1.0f;
  const float* router = nullptr;
  const float* correction_bias = nullptr;
  PanelStack gates, ups, downs;
};

struct Segment {  // one request's rows of a step
  int row = 0, length = 0, start = 0;
  const std::int64_t* blocks = nullptr;
};

// How pages hold a latent; fp8: codes and two exponents, as engine/quant/latents.py has them.
enum class CacheFormat : int { float32 = 0, bf16 = 1, fp8 = 2 };

inline std::size_t latent_bytes(CacheFormat format, int width) {  // of a token in a layer's pages
  const std::size_t values = static_cast<std::size_t>(width);
  return format == CacheFormat::float32 ? 4 * values : format == CacheFormat::bf16 ? 2 * values : values + 2;
}

struct Step {
  int num_rows = 0;
  const float* rotation = nullptr;      // (num_rows, rope / 2) pairs of cosine and sine
  const std::int64_t* slots = nullptr;  // (num_rows): block * block_size + offset
  std::vector<Segment> segments;
  int block_size = 0;
  CacheFormat cache = CacheFormat::bf16;  // of the pages
};

struct Engine {  // what every part of a layer computes with
  const Kernels& kernels;
  Pool& pool;
  bool exact = false;  // int8 and int4 weights meet x as two rows of integers, the second of what the first leaves: float32
};

// Rows of one buffer as pointers, which is what the kernels take.
std::vector<float*> row_pointers(float* base, std::size_t stride, int count);

// Rows of x as products with w take them: as they are, or prepared once for all the panels that they meet. The same for
// every matrix of w's format, group and columns.
class Inputs {
 public:
  Inputs() = default;
  // `in_job`: the calling thread prepares them alone, since it is one of the pool's at work.
  Inputs(const Engine& engine, const float* const* x, int num_rows, const Panels& w, bool in_job = false);
  bool serves(const Panels& w) const;
  // panels [first, last) of w; see Kernels::matmul
  void multiply(const Panels& w, int first, int last, float* const* out, bool accumulate) const;
  int num_rows() const { return num_rows_; }

 private:
  const Kernels* kernels_ = nullptr;
  const float* const* x_ = nullptr;
  int num_rows_ = 0;
  Panels like_;
  std::vector<std::uint8_t> prepared_;  // empty: x as it is
  std::size_t rest_ = 0;                // where the rows of what the first integers leave begin; 0: there are none
};

// Kernels::matmul within a job, as exact as the engine is.
void matmul(const Engine& engine, const float* const* x, int num_x, const Panels& w, int first, int last, float* const* out,
            bool accumulate);

struct Product {
  Panels weights;
  float* const* out = nullptr;
  bool accumulate = false;
};

// All products of the same x in one job: units are groups of panels over all the matrices.
void multiply(const Engine& engine, const float* const* x, int num_rows, const std::vector<Product>& products);

// x (num_rows, hidden) in place: x += attention(norm(x)), then x += feed_forward(norm(x)). `pages` is this layer's.
void run_layer(const Engine& engine, const Layer& layer, const Step& step, void* pages, float* x);

// out (num_rows, heads * v) = attention of rotated queries q (num_rows, heads * (nope + rope)) on the pages.
void attend(const Engine& engine, const Layer& layer, const Step& step, const void* pages, const float* q, float* out);

// ids and gates of one row, ids ascending. logits (num_experts) become scores.
void choose_experts(const Layer& layer, float* logits, int* ids, float* gates);

// x (num_rows, hidden) += routed and shared experts, or the dense MLP, of `normed`
void feed_forward(const Engine& engine, const Layer& layer, const float* normed, int num_rows, float* x);

// out (num_rows, hidden) += routed experts of x, chosen elsewhere: ids and gates (num_rows, top_k). Of `layer` it reads
// hidden, num_experts, top_k, gates, ups and downs.
void routed_experts(const Engine& engine, const Layer& layer, const float* x, int num_rows, const std::int64_t* ids,
                    const float* gates, float* out);

}  // namespace dsv
