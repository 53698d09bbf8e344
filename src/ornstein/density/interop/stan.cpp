// What `ornstein.density.interop.stan` calls through ctypes. It is appended to the C++ that Stan's compiler writes for a program.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <stan/io/json/json_data.hpp>
#include <stan/math.hpp>
#include <stan/model/log_prob_grad.hpp>
#include <stan/model/model_base.hpp>
#include <stan/services/util/create_rng.hpp>

stan::model::model_base &new_model(stan::io::var_context &data, unsigned int seed, std::ostream *messages);

namespace {
using Model = stan::model::model_base;
using Rng = decltype(stan::services::util::create_rng(0u, 0u));

// Copies `what` into a buffer of `size` bytes, cut to fit, and returns the bytes that all of it needs.
size_t say(char *text, size_t size, const std::string &what) {
  std::strncpy(text, what.c_str(), size - 1);
  text[size - 1] = '\0';
  return what.size() + 1;
}

// Calls work(first, last) on disjoint ranges of 0..n, each in a thread with an autodiff stack of its own.
template <typename Work>
void in_threads(size_t n, size_t threads, const Work &work) {
  std::vector<std::thread> pool;
  const size_t size = (n + threads - 1) / threads;
  for (size_t first = 0; first < n; first += size)
    pool.emplace_back([&, first] {
      stan::math::ChainableStack stack;
      work(first, std::min(n, first + size));
    });
  for (auto &thread : pool) thread.join();
}
}  // namespace

extern "C" {

// 0 and a model, or 1 and the reason in `text`. `data` is JSON.
int ornstein_open(const char *data, unsigned int seed, void **model, char *text, size_t size) {
  try {
    std::istringstream in(data);
    stan::json::json_data context(in);
    std::ostringstream messages;
    *model = &new_model(context, seed, &messages);
    return 0;
  } catch (const std::exception &error) {
    say(text, size, error.what());
    return 1;
  }
}

size_t ornstein_dim(void *model) { return static_cast<Model *>(model)->num_params_r(); }

// "name:rows,columns;..." of the parameters, the transformed parameters and the generated quantities; the bytes that it needs.
size_t ornstein_names(void *model, char *text, size_t size) {
  std::vector<std::string> names;
  std::vector<std::vector<size_t>> dims;
  static_cast<Model *>(model)->get_param_names(names, true, true);
  static_cast<Model *>(model)->get_dims(dims, true, true);
  std::ostringstream out;
  for (size_t i = 0; i < names.size(); ++i) {
    out << (i ? ";" : "") << names[i] << ":";
    for (size_t j = 0; j < dims[i].size(); ++j) out << (j ? "," : "") << dims[i][j];
  }
  return say(text, size, out.str());
}

// value: (n,), gradient: (n, d) or null; all constants and the Jacobian are included; -inf where the program rejects.
void ornstein_log_density(void *model, const double *x, size_t n, size_t threads, double *value, double *gradient) {
  const Model &m = *static_cast<Model *>(model);
  const size_t d = m.num_params_r();
  in_threads(n, threads, [&](size_t first, size_t last) {
    std::vector<double> point(d), slope(d);
    std::vector<int> none;
    for (size_t i = first; i < last; ++i) {
      std::copy_n(x + i * d, d, point.begin());
      std::fill(slope.begin(), slope.end(), 0.0);
      try {
        std::ostringstream messages;
        value[i] = gradient ? stan::model::log_prob_grad<false, true>(m, point, none, slope, &messages)
                            : m.template log_prob<false, true>(point, none, &messages);
      } catch (const std::exception &) {
        stan::math::recover_memory();
        value[i] = -std::numeric_limits<double>::infinity();
      }
      if (gradient) std::copy(slope.begin(), slope.end(), gradient + i * d);
    }
  });
}

// out: (n, k), the quantities of `ornstein_names`, each in column-major order; NaN where the program rejects.
void ornstein_write(void *model, const double *x, size_t n, size_t threads, unsigned int seed, size_t k, double *out) {
  const Model &m = *static_cast<Model *>(model);
  const size_t d = m.num_params_r();
  in_threads(n, threads, [&](size_t first, size_t last) {
    std::vector<double> point(d), values;
    std::vector<int> none;
    for (size_t i = first; i < last; ++i) {
      std::copy_n(x + i * d, d, point.begin());
      values.clear();
      try {
        std::ostringstream messages;
        Rng rng = stan::services::util::create_rng(seed, i);
        m.write_array(rng, point, none, values, true, true, &messages);
      } catch (const std::exception &) {
        values.clear();
      }
      values.resize(k, std::numeric_limits<double>::quiet_NaN());
      std::copy(values.begin(), values.end(), out + i * k);
    }
  });
}

}  // extern "C"
