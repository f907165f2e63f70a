/* passes: the work of training that only goes over memory, forward and backward, each in one pass, for a CPU.

   Compiled at first use with the types of what is read and of what is written: IN and OUT, 16 for bfloat16 or 32; and CHUNK. All sums
   are float32, in an order that does not depend on the number of threads.
   Shapes: N tokens, H heads (1 where there are none), D width, K head width, F hidden. */

#include <math.h>
#include <stdint.h>

typedef union { float value; uint32_t bits; } word;
typedef uint16_t narrow; /* bfloat16 */
static inline float from16(narrow x) { return (word){.bits = (uint32_t)x << 16}.value; }
static inline narrow to16(float x) { /* to nearest, ties to even */
  uint32_t bits = (word){.value = x}.bits;
  return x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline float from32(float x) { return x; }
static inline float to32(float x) { return x; }
#if IN == 16
typedef narrow in;
#define FROM_IN from16
#define TO_IN to16
#else
typedef float in;
#define FROM_IN from32
#define TO_IN to32
#endif
#if OUT == 16
typedef narrow out;
#define FROM_OUT from16
#define TO_OUT to16
#else
typedef float out;
#define FROM_OUT from32
#define TO_OUT to32
#endif

/* y = x scale gain, scale = 1 / rms(x) kept for the way back. x (N, H, D), `pitch` numbers from a token to the next. */
void normed(long N, long H, long D, const in *x, long pitch, const float *gain, float eps, float *scale, out *y) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < N; n++)
    for (long h = 0; h < H; h++) {
      const in *x_D = x + n * pitch + h * D;
      out *y_D = y + (n * H + h) * D;
      float squares = 0;
#pragma omp simd reduction(+ : squares)
      for (long i = 0; i < D; i++) squares += FROM_IN(x_D[i]) * FROM_IN(x_D[i]);
      float s = scale[n * H + h] = 1 / sqrtf(squares / D + eps);
#pragma omp simd
      for (long i = 0; i < D; i++) y_D[i] = TO_OUT(FROM_IN(x_D[i]) * s * gain[i]);
    }
}

/* With u = x scale: dx = scale (g gain − u mean(g gain u)), dgain the sum of g u, here of each CHUNK tokens, (N / CHUNK, D). */
void normed_back(long N, long H, long D, const out *g, const in *x, long pitch, const float *gain, const float *scale,
                 in *dx, float *dgain) {
#pragma omp parallel for schedule(static)
  for (long c = 0; c < (N + CHUNK - 1) / CHUNK; c++) {
    float *dgain_D = dgain + c * D;
    for (long i = 0; i < D; i++) dgain_D[i] = 0;
    for (long n = c * CHUNK; n < N && n < (c + 1) * CHUNK; n++)
      for (long h = 0; h < H; h++) {
        const in *x_D = x + n * pitch + h * D;
        const out *g_D = g + (n * H + h) * D;
        in *dx_D = dx + (n * H + h) * D;
        float s = scale[n * H + h], along = 0;
#pragma omp simd reduction(+ : along)
        for (long i = 0; i < D; i++) {
          float each = FROM_OUT(g_D[i]) * FROM_IN(x_D[i]) * s;
          dgain_D[i] += each;
          along += each * gain[i];
        }
        along *= s / D;
#pragma omp simd
        for (long i = 0; i < D; i++) dx_D[i] = TO_IN(s * (FROM_OUT(g_D[i]) * gain[i] - FROM_IN(x_D[i]) * along));
      }
  }
}

/* Half i of a head turns with half i + K / 2 by the angle of the token, one of T; `sign` -1 turns back. x, y (N, H, K). */
void turned(long N, long H, long K, const float *x, const float *cos_TK, const float *sin_TK, long T, float sign, float *y) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < N; n++)
    for (long h = 0; h < H; h++) {
      const float *a = x + (n * H + h) * K, *b = a + K / 2, *c = cos_TK + n % T * K, *s = sin_TK + n % T * K;
      float *y_K = y + (n * H + h) * K;
#pragma omp simd
      for (long i = 0; i < K / 2; i++) {
        y_K[i] = a[i] * c[i] - sign * b[i] * s[i];
        y_K[K / 2 + i] = b[i] * c[i] + sign * a[i] * s[i];
      }
    }
}

/* e^x for x <= 0, e^-87 below that; NaN stays. */
static inline float exponential(float x) {
  const float shift = 12582912;
  float n = (x < -87 ? -87 : x) * 1.44269504f + shift - shift, r = (x < -87 ? -87 : x) - n * 0.693359375f + n * 2.12194440e-4f;
  float y = 1 + r * (1 + r * (1.f / 2 + r * (1.f / 6 + r * (1.f / 24 + r * (1.f / 120 + r * (1.f / 720 + r / 5040))))));
  return y * (word){.bits = (uint32_t)((int32_t)n + 127) << 23}.value;
}
static inline float sigmoid(float x) {
  float e = exponential(x < 0 ? x : -x);
  return (x < 0 ? e : 1) / (1 + e);
}

/* silu(gate) up, (N, 2 F) -> (N, F), both of type IN. */
void gated(long N, long F, const in *gate_up, in *y) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < N; n++) {
    const in *gate = gate_up + n * 2 * F, *up = gate + F;
#pragma omp simd
    for (long i = 0; i < F; i++) y[n * F + i] = TO_IN(FROM_IN(gate[i]) * sigmoid(FROM_IN(gate[i])) * FROM_IN(up[i]));
  }
}

/* dup = g silu(gate), dgate = g up silu'(gate), silu' = s (1 + gate (1 − s)). */
void gated_back(long N, long F, const in *g, const in *gate_up, in *d) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < N; n++) {
    const in *gate = gate_up + n * 2 * F, *up = gate + F;
    in *dgate = d + n * 2 * F, *dup = dgate + F;
#pragma omp simd
    for (long i = 0; i < F; i++) {
      float x = FROM_IN(gate[i]), s = sigmoid(x), back = FROM_IN(g[n * F + i]);
      dup[i] = TO_IN(back * x * s);
      dgate[i] = TO_IN(back * FROM_IN(up[i]) * s * (1 + x * (1 - s)));
    }
  }
}

/* Softmax of scores in place, both of type IN, (N, S, E): query s of S sees the first E - S + s + 1 of E keys. */
void softmax(long N, long S, long E, in *scores) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < N * S; n++) {
    in *z = scores + n * E;
    long seen = E - S + n % S + 1;
    float most = -INFINITY, sum = 0, e[E];
#pragma omp simd reduction(max : most)
    for (long i = 0; i < seen; i++) most = FROM_IN(z[i]) > most ? FROM_IN(z[i]) : most;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < seen; i++) sum += e[i] = exponential(FROM_IN(z[i]) - most);
#pragma omp simd
    for (long i = 0; i < seen; i++) z[i] = TO_IN(e[i] / sum);
    for (long i = seen; i < E; i++) z[i] = 0;
  }
}
