// Packing: values change their place, never their bits.
#include "pack.h"

#include <bit>
#include <cstring>

namespace dsv {
namespace {

int num_groups(const Rows& from) { return (from.cols + from.group - 1) / from.group; }

std::uint16_t bits16(const std::uint8_t* from, std::size_t index) {
  std::uint16_t value;
  std::memcpy(&value, from + 2 * index, sizeof value);
  return value;
}

float widened(std::uint16_t bf16) { return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16); }

float half_to_float(std::uint16_t half) {
  const float size = std::bit_cast<float>(static_cast<std::uint32_t>(half & 0x7fff) << 13) * 0x1p112f;
  return half & 0x8000 ? -size : size;
}

// e4m3 is read as half precision, which is the value / 256
float block_scale(const Rows& from, int row, int g) {
  float scale;
  const std::size_t at = static_cast<std::size_t>(row / from.block_rows) * num_groups(from) + g;
  std::memcpy(&scale, from.scale + sizeof scale * at, sizeof scale);
  return scale * 256.0f;
}

std::uint8_t code(const Rows& from, int row, int col) {
  if (from.format != Format::int4) return from.codes[static_cast<std::size_t>(row) * from.cols + col];
  const std::uint8_t pair = from.codes[static_cast<std::size_t>(row) * ((from.cols + 1) / 2) + col / 2];
  return col % 2 ? pair >> 4 : pair & 15;
}

void put_code(std::uint8_t* codes, Format format, int k, int lane, std::uint8_t value) {
  if (format == Format::int4)
    codes[64 * (k / 8) + 4 * lane + k % 4] |= static_cast<std::uint8_t>(k % 8 < 4 ? value : value << 4);
  else if (format == Format::int8)
    codes[64 * (k / 4) + 4 * lane + k % 4] = value;
  else
    codes[32 * (k / 2) + 2 * lane + k % 2] = value;
}

// Four nibbles, one a byte.
std::uint32_t spread(std::uint32_t nibbles) {
  const std::uint32_t pairs = (nibbles | nibbles << 8) & 0x00ff00ff;
  return (pairs | pairs << 4) & 0x0f0f0f0f;
}

// The codes of columns [begin, begin + size) of a row, into its lane of a group that is all zero. `begin` is even.
void put_row(const Rows& from, int row, int begin, int size, int lane, std::uint8_t* codes) {
  const bool int4 = from.format == Format::int4;
  const std::uint8_t* source = from.codes + static_cast<std::size_t>(row) * (int4 ? (from.cols + 1) / 2 : from.cols) +
                               (int4 ? begin / 2 : begin);
  int k = 0;
  if (int4) {
    for (; k + 8 <= size; k += 8) {
      std::uint32_t eight;
      std::memcpy(&eight, source + k / 2, sizeof eight);
      eight = spread(eight & 0xffff) | spread(eight >> 16) << 4;
      std::memcpy(codes + 8 * k + 4 * lane, &eight, sizeof eight);
    }
  } else if (from.format == Format::int8) {
    for (; k + 4 <= size; k += 4) std::memcpy(codes + 16 * k + 4 * lane, source + k, 4);
  } else {
    for (; k + 2 <= size; k += 2) std::memcpy(codes + 16 * k + 2 * lane, source + k, 2);
  }
  for (; k < size; ++k) put_code(codes, from.format, k, lane, code(from, row, begin + k));
}

void pack_bf16(const Rows& from, int first, int lanes, std::size_t col_stride, std::size_t row_stride, int cols,
               std::uint8_t* to) {
  for (int lane = 0; lane < lanes; ++lane) {
    const std::uint8_t* row = from.codes + 2 * row_stride * static_cast<std::size_t>(first + lane);
    for (int k = 0; k < cols; ++k)
      std::memcpy(to + 64 * (k / 2) + 4 * lane + 2 * (k % 2), row + 2 * col_stride * static_cast<std::size_t>(k), 2);
  }
}

// Scales and zero points of W_UK as floats, (group, nope) each, after the head's panels.
void pack_key_scales(const Rows& from, int first, const HeadPanels& shape, float* scales) {
  const int groups = shape.num_groups();
  float* zeros = scales + static_cast<std::size_t>(groups) * shape.nope;
  for (int g = 0; g < groups; ++g)
    for (int n = 0; n < shape.nope; ++n) {
      const std::size_t source = static_cast<std::size_t>(first + n) * groups + g, at = static_cast<std::size_t>(g) * shape.nope + n;
      const bool blocks = from.format == Format::fp8;
      scales[at] = blocks ? block_scale(from, first + n, g) / 256.0f : widened(bits16(from.scale, source));
      zeros[at] = from.format == Format::int4 ? half_to_float(bits16(from.zero, source)) : 0.0f;
    }
}

void put_unit_header(std::uint8_t* to, Format format) {
  const std::uint16_t one = 0x3f80;  // of bf16; zero points stay zero
  const float back = 256.0f;
  if (format == Format::fp8) std::memcpy(to, &back, sizeof back);
  if (format == Format::int8 || format == Format::int4)
    for (int lane = 0; lane < 16; ++lane) std::memcpy(to + 2 * lane, &one, sizeof one);
}

}  // namespace

void pack(const Rows& from, int first, const Panels& shape, std::uint8_t* to) {
  const std::size_t bytes = shape.panel_bytes();
  for (int panel = 0; panel < shape.num_panels(); ++panel, to += bytes) {
    std::memset(to, 0, bytes);
    const int row = first + 16 * panel, lanes = shape.rows - 16 * panel < 16 ? shape.rows - 16 * panel : 16;
    if (shape.format == Format::bf16) {
      pack_bf16(from, row, lanes, 1, static_cast<std::size_t>(from.cols), shape.cols, to);
      continue;
    }
    std::uint8_t* place = to;
    for (int begin = 0, g = 0; begin < shape.cols; begin += shape.group, ++g) {
      const int size = shape.cols - begin < shape.group ? shape.cols - begin : shape.group;
      std::uint8_t* codes = place + header_bytes(shape.format);
      if (shape.format == Format::fp8) {
        const float scale = block_scale(from, row, g);
        std::memcpy(place, &scale, sizeof scale);
      }
      for (int lane = 0; lane < lanes; ++lane) {
        const std::size_t at = static_cast<std::size_t>(row + lane) * num_groups(from) + g;
        if (shape.format != Format::fp8) std::memcpy(place + 2 * lane, from.scale + 2 * at, 2);
        if (shape.format == Format::int4) std::memcpy(place + 32 + 2 * lane, from.zero + 2 * at, 2);
        put_row(from, row + lane, begin, size, lane, codes);
      }
      place = codes + value_bytes(shape.format, size);
    }
  }
}

void pack_heads(const Rows& from, int heads, const HeadPanels& shape, std::uint8_t* to) {
  HeadPanels target = shape;
  target.data = to;
  for (int head = 0; head < heads; ++head) {
    const int first = head * (shape.nope + shape.v);
    const Panels keys = target.key_up(head), values = target.value_up(head);
    std::uint8_t* place = to + (keys.data - to);
    for (int panel = 0; panel < keys.num_panels(); ++panel, place += keys.panel_bytes()) {
      std::memset(place, 0, keys.panel_bytes());
      const int column = 16 * panel, lanes = shape.rank - column < 16 ? shape.rank - column : 16;
      if (shape.format == Format::bf16) {
        for (int lane = 0; lane < lanes; ++lane)
          for (int n = 0; n < shape.nope; ++n)
            std::memcpy(place + 64 * (n / 2) + 4 * lane + 2 * (n % 2),
                        from.codes + 2 * (static_cast<std::size_t>(first + n) * from.cols + column + lane), 2);
        continue;
      }
      put_unit_header(place, shape.format);
      for (int lane = 0; lane < lanes; ++lane)
        for (int n = 0; n < shape.nope; ++n)
          put_code(place + header_bytes(shape.format), shape.format, n, lane, code(from, first + n, column + lane));
    }
    pack(from, first + shape.nope, values, to + (values.data - to));
    if (shape.format != Format::bf16)
      pack_key_scales(from, first, shape, reinterpret_cast<float*>(to + (reinterpret_cast<const std::uint8_t*>(target.key_scales(head)) - to)));
  }
}

}  // namespace dsv
