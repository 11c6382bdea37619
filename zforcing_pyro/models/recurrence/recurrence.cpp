// The time loops of fused.py in C++: the same buffers, the same numbers to rounding.
//
// A matrix product is a call of ATen, as in Python; what lies between two of them is one pass over
// memory. Built on request only, see native.py.

#include <torch/library.h>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using at::Tensor;

inline double exp_(double x) { return std::exp(x); }

// Within two units in the last place, and simple enough for a compiler to vectorise.
inline float exp_(float x) {
  const bool overflows = x > 88.7228f;
  x = x < -87.0f ? -87.0f : (overflows ? 88.0f : x);
  const float n = std::nearbyint(x * 1.44269504088896341f);
  float r = x - n * 0.693145751953125f;
  r -= n * 1.428606765330187e-6f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return overflows ? std::numeric_limits<float>::infinity() : p * power;
}

template <typename T>
inline T sigmoid(T x) {
  return T(1) / (T(1) + exp_(-x));
}

template <typename T>
inline T clipped(T x, T bound) {
  return x < -bound ? -bound : (x > bound ? bound : x);
}

// As products.Prepared: oneDNN where it saves more than its call costs.
class Prepared {
 public:
  Prepared(const Tensor& weight, int64_t rows, bool onednn) : transposed_(weight.t()) {
    if (!onednn || 2 * rows * weight.numel() <= 1200000) return;
    static const auto reorder =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
            .typed<Tensor(const Tensor&, std::optional<int64_t>)>();
    packed_ = reorder.call(weight.contiguous(), rows);
  }

  Tensor operator()(const Tensor& x) const {
    if (!packed_.defined()) return at::mm(x, transposed_);
    static const auto linear =
        c10::Dispatcher::singleton()
            .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
            .typed<Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&,
                          c10::string_view, c10::List<std::optional<at::Scalar>>,
                          std::optional<c10::string_view>)>();
    return linear.call(x, packed_, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(),
                       "");
  }

 private:
  Tensor transposed_, packed_;
};

// The pointwise half of an LSTM for one row: y comes as pre-activations, and leaves as gates.
template <typename T>
inline void update(int64_t H, T* y, const T* c, T* c_next, T* tanh_c, T* h_next) {
  for (int64_t j = 0; j < 2 * H; ++j) y[j] = sigmoid(y[j]);
  for (int64_t j = 2 * H; j < 3 * H; ++j) y[j] = 2 * sigmoid(2 * y[j]) - 1;
  for (int64_t j = 3 * H; j < 4 * H; ++j) y[j] = sigmoid(y[j]);
  for (int64_t j = 0; j < H; ++j) {
    const T next = y[H + j] * c[j] + y[j] * y[2 * H + j];
    const T tanh = 2 * sigmoid(2 * next) - 1;
    c_next[j] = next;
    tanh_c[j] = tanh;
    h_next[j] = y[3 * H + j] * tanh;
  }
}

// Its gradient: d of the gates, and dc from c_t to c_{t-1}.
template <typename T>
inline void update_gradient(int64_t H, const T* y, const T* c, const T* tanh_c, const T* dh, T* dc,
                            T* d) {
  for (int64_t j = 0; j < H; ++j) {
    const T i = y[j], f = y[H + j], fresh = y[2 * H + j], o = y[3 * H + j];
    const T of_h = dh[j], of_c = dc[j] + of_h * o * (1 - tanh_c[j] * tanh_c[j]);
    d[j] = of_c * fresh * i * (1 - i);
    d[H + j] = of_c * c[j] * f * (1 - f);
    d[2 * H + j] = of_c * i * (1 - fresh * fresh);
    d[3 * H + j] = of_h * tanh_c[j] * o * (1 - o);
    dc[j] = of_c * f;
  }
}

// hs, cs, gates, tanh_c, hidden, output, z, exps: the buffers of Recurrence.forward.
template <typename T>
void forward_loop(const Tensor& projected, const Tensor& from_future, const Tensor& noise,
                  const Tensor& weight_hq, const Tensor& weight_z, const Tensor& weight_out,
                  const Tensor& bias_out, const std::vector<Tensor>& buffers, double clamp,
                  double half, double min_scale, bool onednn) {
  const Tensor &hs = buffers[0], &cs = buffers[1], &gates = buffers[2], &tanh_c = buffers[3],
               &hidden = buffers[4], &output = buffers[5], &z = buffers[6], &exps = buffers[7];
  const int64_t steps = noise.size(0), updates = projected.size(0), rows = hs.size(1);
  const int64_t batch = from_future.size(1), H = hs.size(2), M = hidden.size(2), Z = z.size(2);
  const Prepared times_h(weight_hq, rows, onednn), times_z(weight_z, rows, onednn),
      times_out(weight_out, rows, onednn);
  const T *bias = bias_out.const_data_ptr<T>(), *future_0 = from_future.const_data_ptr<T>();
  const T *noise_0 = noise.const_data_ptr<T>(), *projected_0 = projected.const_data_ptr<T>();
  T *output_0 = output.data_ptr<T>(), *exps_0 = exps.data_ptr<T>(), *cs_0 = cs.data_ptr<T>();
  T *gates_0 = gates.data_ptr<T>(), *tanh_0 = tanh_c.data_ptr<T>();
  // Views only of what a product reads, all at once: one by one they cost as much as a small one.
  const std::vector<Tensor> h_of = hs.unbind(), hidden_of = hidden.unbind(), z_of = z.unbind();
  const T bound = clamp > 0 ? T(clamp) : std::numeric_limits<T>::infinity();
  for (int64_t t = 0; t < steps; ++t) {
    const Tensor from_h = times_h(h_of[t]);
    const T* rec = from_h.const_data_ptr<T>();
    T* a = hidden_of[t].data_ptr<T>();
    const T* future = future_0 + t * batch * M;
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = rec + r * (4 * H + M) + 4 * H;
      const T* known = future + (r % batch) * M;
      for (int64_t j = 0; j < M; ++j) {
        const T x = row[j] + known[j];
        a[r * M + j] = clipped(x > 0 ? x : x * T(1.0 / 3.0), T(3));
      }
    }
    const Tensor raw_t = times_out(hidden_of[t]);
    const T *raw = raw_t.const_data_ptr<T>(), *eps = noise_0 + t * rows * Z;
    T *out = output_0 + t * rows * 2 * Z, *e = exps_0 + t * rows * 2 * Z;
    T* latent = z_of[t].data_ptr<T>();
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < 2 * Z; ++j) out[r * 2 * Z + j] = raw[r * 2 * Z + j] + bias[j];
      for (int64_t j = 0; j < Z; ++j) {
        const T loc = clipped(out[r * 2 * Z + j], bound);
        const T scale = exp_(T(half) * clipped(out[r * 2 * Z + Z + j], bound));
        e[r * 2 * Z + Z + j] = scale;
        latent[r * Z + j] = loc + (scale + T(min_scale)) * eps[r * Z + j];
      }
    }
    if (t == updates) break;
    const Tensor from_z = times_z(z_of[t]);
    const T *of_z = from_z.const_data_ptr<T>(), *of_x = projected_0 + t * batch * 4 * H;
    T *c = cs_0 + t * rows * H, *c_next = c + rows * H, *tanh_t = tanh_0 + t * rows * H;
    T *g = gates_0 + t * rows * 4 * H, *h_next = h_of[t + 1].data_ptr<T>();
    for (int64_t r = 0; r < rows; ++r) {
      const T* p = rec + r * (4 * H + M);
      const T* q = of_z + r * 4 * H;
      const T* s = of_x + (r % batch) * 4 * H;
      T* y = g + r * 4 * H;
      for (int64_t j = 0; j < 4 * H; ++j) y[j] = p[j] + q[j] + s[j];
      update(H, y, c + r * H, c_next + r * H, tanh_t + r * H, h_next + r * H);
    }
  }
}

// d_h and d_c come as the gradient of the last state, and leave as that of the first.
template <typename T>
void backward_loop(const Tensor& d_hs, const Tensor& d_z, const Tensor& d_output, Tensor d_h,
                   const Tensor& d_c, const Tensor& noise, const Tensor& weight_h,
                   const Tensor& weight_q, const Tensor& weight_z, const Tensor& weight_out,
                   const std::vector<Tensor>& saved, const Tensor& d_gates,
                   const Tensor& d_hidden, const Tensor& d_out, double clamp, double half,
                   bool onednn) {
  const Tensor &cs = saved[0], &gates = saved[1], &tanh_c = saved[2], &hidden = saved[3],
               &output = saved[4], &exps = saved[5];
  const int64_t steps = noise.size(0), updates = gates.size(0), rows = cs.size(1);
  const int64_t H = cs.size(2), M = hidden.size(2), Z = noise.size(2);
  const Prepared h_from_gates(weight_h.t(), rows, onednn), z_from_gates(weight_z.t(), rows, onednn),
      h_from_hidden(weight_q.t(), rows, onednn), from_out(weight_out.t(), rows, onednn);
  const T bound = clamp > 0 ? T(clamp) : std::numeric_limits<T>::infinity();
  T *dc = d_c.data_ptr<T>(), *dh = d_h.data_ptr<T>();
  const T *gates_0 = gates.const_data_ptr<T>(), *cs_0 = cs.const_data_ptr<T>();
  const T *tanh_0 = tanh_c.const_data_ptr<T>(), *hidden_0 = hidden.const_data_ptr<T>();
  const T *output_0 = output.const_data_ptr<T>(), *exps_0 = exps.const_data_ptr<T>();
  const T *noise_0 = noise.const_data_ptr<T>(), *d_hs_0 = d_hs.const_data_ptr<T>();
  const T *d_z_0 = d_z.const_data_ptr<T>(), *d_output_0 = d_output.const_data_ptr<T>();
  const std::vector<Tensor> d_gates_of = d_gates.unbind(), d_out_of = d_out.unbind(),
                            d_hidden_of = d_hidden.unbind();
  for (int64_t t = steps - 1; t >= 0; --t) {
    Tensor from_gates;
    if (t < updates) {
      T* d = d_gates_of[t].data_ptr<T>();
      const T *g = gates_0 + t * rows * 4 * H, *c = cs_0 + t * rows * H;
      const T* tanh = tanh_0 + t * rows * H;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t k = r * H;
        update_gradient(H, g + 4 * k, c + k, tanh + k, dh + k, dc + k, d + 4 * k);
      }
      from_gates = z_from_gates(d_gates_of[t]);
    }
    const int64_t latents = t * rows * Z;
    const T* of_z = t < updates ? from_gates.const_data_ptr<T>() : nullptr;
    const T *given_z = d_z_0 + latents, *eps = noise_0 + latents;
    const T *given = d_output_0 + 2 * latents, *raw = output_0 + 2 * latents;
    const T* e = exps_0 + 2 * latents;
    T* d = d_out_of[t].data_ptr<T>();
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < Z; ++j) {
        const int64_t loc = r * 2 * Z + j, scale = loc + Z, at = r * Z + j;
        const T dz = given_z[at] + (of_z ? of_z[at] : T(0));
        d[loc] = given[loc] + (std::abs(raw[loc]) <= bound ? dz : T(0));
        const T slope = std::abs(raw[scale]) <= bound ? eps[at] * e[scale] * T(half) : T(0);
        d[scale] = given[scale] + dz * slope;
      }
    }
    const Tensor from_o = from_out(d_out_of[t]);
    const T *of_out = from_o.const_data_ptr<T>(), *a = hidden_0 + t * rows * M;
    T* d_a = d_hidden_of[t].data_ptr<T>();
    for (int64_t k = 0; k < rows * M; ++k) {
      const T slope = a[k] > 0 ? T(1) : T(1.0 / 3.0);
      d_a[k] = std::abs(a[k]) < 3 ? of_out[k] * slope : T(0);
    }
    const Tensor of_hidden = h_from_hidden(d_hidden_of[t]);
    const Tensor of_gates = t < updates ? h_from_gates(d_gates_of[t]) : Tensor();
    const T *x = of_hidden.const_data_ptr<T>(), *w = d_hs_0 + t * rows * H;
    const T* v = t < updates ? of_gates.const_data_ptr<T>() : nullptr;
    if (v) {
      for (int64_t k = 0; k < rows * H; ++k) dh[k] = w[k] + x[k] + v[k];
    } else {
      for (int64_t k = 0; k < rows * H; ++k) dh[k] = w[k] + x[k];
    }
  }
}

// The buffers of Forced.forward; gates come without what they read of the state.
template <typename T>
void forced_forward_loop(const Tensor& weight_h, const Tensor& hs, const Tensor& cs,
                         const Tensor& gates, const Tensor& tanh_c, bool onednn) {
  const int64_t updates = gates.size(0), rows = gates.size(1), H = hs.size(2);
  const Prepared times_h(weight_h, rows, onednn);
  T *c = cs.data_ptr<T>(), *tanh = tanh_c.data_ptr<T>(), *g = gates.data_ptr<T>();
  const std::vector<Tensor> h_of = hs.unbind();
  for (int64_t t = 0; t < updates; ++t) {
    const Tensor from_h = times_h(h_of[t]);
    const T* p = from_h.const_data_ptr<T>();
    T* h_next = h_of[t + 1].data_ptr<T>();
    for (int64_t r = 0; r < rows; ++r, g += 4 * H, p += 4 * H, c += H, tanh += H, h_next += H) {
      for (int64_t j = 0; j < 4 * H; ++j) g[j] += p[j];
      update(H, g, c, c + rows * H, tanh, h_next);
    }
  }
}

// d_h and d_c come as the gradient of the last state, and leave as that of the first.
template <typename T>
void forced_backward_loop(const Tensor& d_hs, Tensor d_h, const Tensor& d_c,
                          const Tensor& weight_h, const Tensor& cs, const Tensor& gates,
                          const Tensor& tanh_c, const Tensor& d_gates, bool onednn) {
  const int64_t updates = gates.size(0), rows = gates.size(1), H = cs.size(2), size = rows * H;
  const Prepared times_gates(weight_h.t(), rows, onednn);
  const T *c = cs.const_data_ptr<T>(), *tanh = tanh_c.const_data_ptr<T>();
  const T *g = gates.const_data_ptr<T>(), *given = d_hs.const_data_ptr<T>();
  T *dc = d_c.data_ptr<T>(), *dh = d_h.data_ptr<T>();
  const std::vector<Tensor> d_gates_of = d_gates.unbind();
  for (int64_t t = updates - 1; t >= 0; --t) {
    T* d = d_gates_of[t].data_ptr<T>();
    for (int64_t k = 0; k < size; k += H) {
      const int64_t at = t * size + k;
      update_gradient(H, g + 4 * at, c + at, tanh + at, dh + k, dc + k, d + 4 * k);
    }
    const Tensor from_gates = times_gates(d_gates_of[t]);
    const T* v = from_gates.const_data_ptr<T>();
    for (int64_t k = 0; k < size; ++k) dh[k] = given[t * size + k] + v[k];
  }
}

void forward(const Tensor& projected, const Tensor& from_future, const Tensor& noise,
             const Tensor& weight_hq, const Tensor& weight_z, const Tensor& weight_out,
             const Tensor& bias_out, std::vector<Tensor> buffers, double clamp, double half,
             double min_scale, bool onednn) {
  AT_DISPATCH_FLOATING_TYPES(noise.scalar_type(), "zforcing_forward", [&] {
    forward_loop<scalar_t>(projected.contiguous(), from_future.contiguous(), noise, weight_hq,
                           weight_z, weight_out, bias_out.contiguous(), buffers, clamp, half,
                           min_scale, onednn);
  });
}

void backward(const Tensor& d_hs, const Tensor& d_z, const Tensor& d_output, Tensor d_h,
              Tensor d_c, const Tensor& noise, const Tensor& weight_h, const Tensor& weight_q,
              const Tensor& weight_z, const Tensor& weight_out, std::vector<Tensor> saved,
              Tensor d_gates, Tensor d_hidden, Tensor d_out, double clamp, double half,
              bool onednn) {
  AT_DISPATCH_FLOATING_TYPES(noise.scalar_type(), "zforcing_backward", [&] {
    backward_loop<scalar_t>(d_hs.contiguous(), d_z.contiguous(), d_output.contiguous(), d_h, d_c,
                            noise, weight_h, weight_q, weight_z, weight_out, saved, d_gates,
                            d_hidden, d_out, clamp, half, onednn);
  });
}

void forced_forward(const Tensor& weight_h, Tensor hs, Tensor cs, Tensor gates, Tensor tanh_c,
                    bool onednn) {
  AT_DISPATCH_FLOATING_TYPES(hs.scalar_type(), "zforcing_forced_forward", [&] {
    forced_forward_loop<scalar_t>(weight_h, hs, cs, gates, tanh_c, onednn);
  });
}

void forced_backward(const Tensor& d_hs, Tensor d_h, Tensor d_c, const Tensor& weight_h,
                     const Tensor& cs, const Tensor& gates, const Tensor& tanh_c, Tensor d_gates,
                     bool onednn) {
  AT_DISPATCH_FLOATING_TYPES(d_hs.scalar_type(), "zforcing_forced_backward", [&] {
    forced_backward_loop<scalar_t>(d_hs.contiguous(), d_h, d_c, weight_h, cs, gates, tanh_c,
                                   d_gates, onednn);
  });
}

}  // namespace

TORCH_LIBRARY(zforcing_pyro, m) {
  m.def(
      "forward(Tensor projected, Tensor from_future, Tensor noise, Tensor weight_hq, "
      "Tensor weight_z, Tensor weight_out, Tensor bias_out, Tensor(a!)[] buffers, float clamp, "
      "float half, float min_scale, bool onednn) -> ()",
      forward);
  m.def(
      "backward(Tensor d_hs, Tensor d_z, Tensor d_output, Tensor(a!) d_h, Tensor(b!) d_c, "
      "Tensor noise, Tensor weight_h, Tensor weight_q, Tensor weight_z, Tensor weight_out, "
      "Tensor[] saved, Tensor(c!) d_gates, Tensor(d!) d_hidden, Tensor(e!) d_out, float clamp, "
      "float half, bool onednn) -> ()",
      backward);
  m.def(
      "forced_forward(Tensor weight_h, Tensor(a!) hs, Tensor(b!) cs, Tensor(c!) gates, "
      "Tensor(d!) tanh_c, bool onednn) -> ()",
      forced_forward);
  m.def(
      "forced_backward(Tensor d_hs, Tensor(a!) d_h, Tensor(b!) d_c, Tensor weight_h, Tensor cs, "
      "Tensor gates, Tensor tanh_c, Tensor(c!) d_gates, bool onednn) -> ()",
      forced_backward);
}
