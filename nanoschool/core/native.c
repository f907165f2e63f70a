/* native: what a step of the engine does between its products of matrices, each row in one go, for a CPU.

   Compiled at first use (native.py) with K, the width of a head (even); R, the query heads that share a key head; and
   NARROW, 1 where products are in bfloat16. Everything else is float32 at least. A row's result does not depend on those
   beside it. Numbers are taken by pairs of vectors, since of bfloat16 one load gives two: of even places, and of odd ones.
   Shapes: N rows, D width, H query heads, G = H / R key-value heads, T positions of the cache, F hidden, V vocabulary. */

#include <math.h>
#include <stdint.h>

#define LANES 16
#define PAIR (2 * LANES) /* positions at once */
#define BLOCK (2 * PAIR) /* positions between two corrections of a softmax that is still running (1805.02867) */
#define SOME (K % 32 == 0 ? 16 : K % 16 == 0 ? 8 : K % 8 == 0 ? 4 : K % 4 == 0 ? 2 : 1) /* of a head, twice at once */
#define PIECES (K / (2 * SOME))

#define VECTOR(type, count) type __attribute__((vector_size(4 * (count)), aligned(2), may_alias))
typedef VECTOR(float, LANES) lanes;
typedef VECTOR(int32_t, LANES) whole;
typedef VECTOR(float, SOME) some;
typedef VECTOR(int32_t, SOME) some_whole;
#ifdef __clang__ /* it has no __builtin_shuffle, and makes shuffles of such a loop */
#define SHUFFLE(a, b, at)                                                                     \
  ({                                                                                         \
    __typeof__(a) y_, a_ = a, b_ = b;                                                        \
    __typeof__(at) at_ = at;                                                                 \
    const int n_ = sizeof y_ / 4;                                                            \
    for (int i_ = 0; i_ < n_; i_++) y_[i_] = at_[i_] & n_ ? b_[at_[i_] & (n_ - 1)] : a_[at_[i_] & (n_ - 1)]; \
    y_;                                                                                      \
  })
#else
#define SHUFFLE __builtin_shuffle
#endif
#define ALWAYS static inline __attribute__((always_inline))
ALWAYS some_whole some_around(void) {
  some_whole x;
  for (int i = 0; i < SOME; i++) x[i] = i;
  return x;
}
static const whole around = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#if NARROW
typedef uint16_t number; /* bfloat16 */
#define HIGH ((int32_t)0xffff0000)
#define PLACE(t) ((t) / PAIR * PAIR + (t) % 2 * LANES + (t) % PAIR / 2) /* of the t-th of what is loaded by pairs */
#define ORDER(i) (2 * around + (i))
ALWAYS float from(number x) { return (union { uint32_t bits; float value; }){(uint32_t)x << 16}.value; }
ALWAYS number to(float x) { /* to nearest, ties to even */
  uint32_t bits = (union { float value; uint32_t bits; }){x}.bits;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
#define ACCESS(kind, vector, integers)                                     \
  ALWAYS void load_##kind(const number *p, vector x[2]) {                  \
    integers bits = *(const integers *)p;                                  \
    x[0] = (vector)(bits << 16), x[1] = (vector)(bits & HIGH);             \
  }                                                                        \
  ALWAYS void store_##kind(number *p, const vector x[2]) {                 \
    integers low = (integers)x[0], high = (integers)x[1];                  \
    low += 0x7fff + (low >> 16 & 1), high += 0x7fff + (high >> 16 & 1);    \
    *(integers *)p = (low >> 16 & 0xffff) | (high & HIGH);                 \
  }
#else
typedef float number;
#define PLACE(t) (t)
#define ORDER(i) (around + (i) * LANES)
ALWAYS float from(number x) { return x; }
ALWAYS number to(float x) { return x; }
#define ACCESS(kind, vector, integers)                                                        \
  ALWAYS void load_##kind(const number *p, vector x[2]) {                                     \
    x[0] = ((const vector *)p)[0], x[1] = ((const vector *)p)[1];                             \
  }                                                                                           \
  ALWAYS void store_##kind(number *p, const vector x[2]) { ((vector *)p)[0] = x[0], ((vector *)p)[1] = x[1]; }
#endif
ACCESS(lanes, lanes, whole)
ACCESS(some, some, some_whole)
ALWAYS void load_turning(const number *p, some x[2]) { /* even places, and odd ones */
  load_some(p, x);
#if !NARROW
  some_whole even = 2 * some_around();
  some low = SHUFFLE(x[0], x[1], even), high = SHUFFLE(x[0], x[1], even + 1);
  x[0] = low, x[1] = high;
#endif
}

/* `count` of PAIR numbers, `other` for the rest. */
#define PART(kind, type, load)                                                    \
  ALWAYS void part_##kind(const type *p, long count, type other, lanes x[2]) {    \
    type filled[PAIR];                                                            \
    for (int i = 0; i < PAIR; i++) filled[i] = i < count ? p[i] : other;          \
    load(count < PAIR ? filled : p, x);                                           \
  }
ALWAYS void load_floats(const float *p, lanes x[2]) { x[0] = ((const lanes *)p)[0], x[1] = ((const lanes *)p)[1]; }
PART(numbers, number, load_lanes)
PART(floats, float, load_floats)

ALWAYS lanes select(whole which, lanes a, lanes b) { return (lanes)(((whole)a & which) | ((whole)b & ~which)); }
ALWAYS lanes larger(lanes a, lanes b) { return select(a > b, a, b); }
ALWAYS float largest(lanes x) {
  for (int half = LANES / 2; half; half /= 2) x = larger(x, SHUFFLE(x, x, around ^ half));
  return x[0];
}
ALWAYS float total(lanes x) {
  for (int half = LANES / 2; half; half /= 2) x += SHUFFLE(x, x, around ^ half);
  return x[0];
}
ALWAYS float total_some(some x) {
  float sum = 0;
  for (int i = 0; i < SOME; i++) sum += x[i];
  return sum;
}

/* e^x for x <= 0: 2^n e^r, |r| <= ln 2 / 2, e^r by its series up to r^7 / 7!; 0 below -87. NaN stays. */
ALWAYS lanes exponential(lanes x) {
  const float shift = 12582912; /* 1.5 * 2^23: adding it rounds to a whole number */
  lanes n = x * 1.44269504f + shift - shift;
  lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
  lanes y = 1 + r * (1 + r * (1.f / 2 + r * (1.f / 6 + r * (1.f / 24 + r * (1.f / 120 + r * (1.f / 720 + r / 5040))))));
  whole power = __builtin_convertvector(n, whole) + 127;
  return (lanes)((whole)(y * (lanes)(power << 23)) & ~(x <= -87));
}

/* A head's query or key: normed where there is a gain, and turned to its position; what turns together stands side by side.
   Of gain and turns the pieces hold even places and then odd ones, cosines and then sines. */
ALWAYS void ready(const number *x_K, const float *gain_K, float eps, const float *turns_K, float *y_K) {
  some x[PIECES][2], squares = {0};
  float scale = 1;
  for (int k = 0; k < PIECES; k++) {
    load_turning(x_K + 2 * SOME * k, x[k]);
    squares += x[k][0] * x[k][0] + x[k][1] * x[k][1];
  }
  if (gain_K) scale = 1 / sqrtf(total_some(squares) / K + eps);
  for (int k = 0; k < PIECES; k++) {
    const some *turn = (const some *)(turns_K + 2 * SOME * k), *gain = (const some *)(gain_K + 2 * SOME * k);
    some a = x[k][0] * scale, b = x[k][1] * scale;
    if (gain_K) a *= gain[0], b *= gain[1];
    some even = a * turn[0] - b * turn[1], odd = b * turn[0] + a * turn[1];
    for (int i = 0; i < 2; i++) {
      some_whole place = some_around() + i * SOME;
      ((some *)y_K)[2 * k + i] = SHUFFLE(even, odd, place / 2 + (place & 1) * SOME);
    }
  }
}

typedef struct {
  float most[R], weight[R]; /* the largest score, and the sum of e^(score - largest) */
  some out[R][PIECES][2];
} running;

/* `count` more positions of the cache, of `pairs` * PAIR that are read; what is there beyond is finite. */
ALWAYS void see(running *now, int pairs, int count, const float q_RK[R][K], const number *keys_KT, const number *values_TK,
                long room) {
  lanes scores[R][2 * pairs];
  for (int r = 0; r < R; r++)
    for (int j = 0; j < 2 * pairs; j++) scores[r][j] = (lanes){0};
  for (int i = 0; i < K; i++)
    for (int j = 0; j < 2 * pairs; j += 2) {
      lanes keys[2];
      load_lanes(keys_KT + i * room + j * LANES, keys);
      for (int r = 0; r < R; r++) scores[r][j] += q_RK[r][i] * keys[0], scores[r][j + 1] += q_RK[r][i] * keys[1];
    }
  float p[R][BLOCK];
  for (int r = 0; r < R; r++) {
    lanes top = {0}, sum = {0}, nothing = top - INFINITY;
    for (int j = 0; j < 2 * pairs; j++) {
      if (j / 2 == pairs - 1) /* only the last pair is not whole */
        scores[r][j] = select(ORDER(j % 2) + j / 2 * PAIR < count, scores[r][j], nothing);
      top = j ? larger(top, scores[r][j]) : scores[r][j];
    }
    float most = largest(top), before = now->most[r];
    most = most > before ? most : before;
    for (int j = 0; j < 2 * pairs; j++) {
      lanes e = exponential(scores[r][j] - most);
      ((lanes *)p[r])[j] = e;
      sum += e;
    }
    float keep = exponential((lanes){0} + (before - most))[0];
    now->most[r] = most;
    now->weight[r] = now->weight[r] * keep + total(sum);
    for (int k = 0; k < PIECES; k++) now->out[r][k][0] *= keep, now->out[r][k][1] *= keep;
  }
  some also[R][PIECES][2] = {0}; /* a second sum: one alone would wait for itself */
  for (int t = 0; t < count; t += 2)
    for (int k = 0; k < PIECES; k++) {
      some value[2], next[2];
      load_some(values_TK + t * K + 2 * SOME * k, value);
      load_some(values_TK + (t + 1) * K + 2 * SOME * k, next);
      for (int r = 0; r < R; r++)
        for (int i = 0; i < 2; i++) {
          now->out[r][k][i] += p[r][PLACE(t)] * value[i];
          also[r][k][i] += p[r][PLACE(t + 1)] * next[i];
        }
    }
  for (int r = 0; r < R; r++)
    for (int k = 0; k < PIECES; k++)
      for (int i = 0; i < 2; i++) now->out[r][k][i] += also[r][k][i];
}

/* Attention of one new token a row, whose key and value join the cache. qkv (N, (H + 2 G) K), gain (H + G, K) or null,
   turns (context, K), at (N), keys (N, G, K, room), values (N, G, room, K), out (N, H K). Reads of a row's cache what comes
   before `at`, rounded up to PAIR. */
void attend(long N, long G, long room, const number *qkv, const float *gain, float eps, const float *turns,
            const int64_t *at, number *keys, number *values, number *out) {
  const long H = G * R;
#pragma omp parallel for collapse(2) schedule(static)
  for (long n = 0; n < N; n++)
    for (long g = 0; g < G; g++) {
      const number *heads = qkv + n * (H + 2 * G) * K, *value = heads + (H + G + g) * K;
      const float *turn = turns + at[n] * K;
      number *keys_KT = keys + (n * G + g) * K * room, *values_TK = values + (n * G + g) * room * K;
      float q[R][K], k[K];
      ready(heads + (H + g) * K, gain ? gain + (H + g) * K : 0, eps, turn, k);
      running now; /* begins with the token itself */
      for (int r = 0; r < R; r++) {
        ready(heads + (g * R + r) * K, gain ? gain + (g * R + r) * K : 0, eps, turn, q[r]);
        some product = {0};
        for (int i = 0; i < K; i += SOME) product += *(some *)(q[r] + i) * *(some *)(k + i);
        now.most[r] = total_some(product), now.weight[r] = 1;
        for (int j = 0; j < PIECES; j++) load_some(value + 2 * SOME * j, now.out[r][j]);
      }
      long t = 0, count = at[n];
      for (; t + BLOCK <= count; t += BLOCK) see(&now, 2, BLOCK, q, keys_KT + t, values_TK + t * K, room);
      if (count - t > PAIR)
        see(&now, 2, count - t, q, keys_KT + t, values_TK + t * K, room);
      else if (count > t)
        see(&now, 1, count - t, q, keys_KT + t, values_TK + t * K, room);
      for (int i = 0; i < K; i++) keys_KT[i * room + count] = to(k[i]), values_TK[count * K + i] = value[i];
      for (int r = 0; r < R; r++)
        for (int j = 0; j < PIECES; j++) {
          some mean[2] = {now.out[r][j][0] / now.weight[r], now.out[r][j][1] / now.weight[r]};
          store_some(out + (n * H + g * R + r) * K + 2 * SOME * j, mean);
        }
    }
}

/* x += more (unless null); out = x / rms(x), (N, D): `unit` for a product in the session's type, `unit_floats` for logits. */
#define UNIT(name, type, rounded)                                                             \
  void name(long N, long D, float *x, const number *more, float eps, type *out) {             \
    _Pragma("omp parallel for schedule(static)")                                              \
    for (long n = 0; n < N; n++) {                                                            \
      float *x_D = x + n * D, squares = 0;                                                    \
      if (more)                                                                               \
        _Pragma("omp simd")                                                                   \
        for (long i = 0; i < D; i++) x_D[i] += from(more[n * D + i]);                         \
      _Pragma("omp simd reduction(+ : squares)")                                              \
      for (long i = 0; i < D; i++) squares += x_D[i] * x_D[i];                                \
      float scale = 1 / sqrtf(squares / D + eps);                                             \
      _Pragma("omp simd")                                                                     \
      for (long i = 0; i < D; i++) out[n * D + i] = rounded(x_D[i] * scale);                  \
    }                                                                                         \
  }
UNIT(unit, number, to)
UNIT(unit_floats, float, )

/* silu(gate) * up, (N, 2 F) -> (N, F). */
void swiglu(long N, long F, const number *gate_up, number *out) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < N; n++)
    for (long i = 0; i < F; i += PAIR) {
      lanes gate[2], up[2], y[2];
      part_numbers(gate_up + 2 * n * F + i, F - i, 0, gate);
      part_numbers(gate_up + (2 * n + 1) * F + i, F - i, 0, up);
      for (int j = 0; j < 2; j++) {
        lanes e = exponential((lanes)((whole)gate[j] | INT32_MIN)); /* e^-|gate| */
        y[j] = gate[j] * up[j] * select(gate[j] < 0, e, e * 0 + 1) / (1 + e);
      }
      number made[PAIR], *to_F = out + n * F + i;
      store_lanes(F - i < PAIR ? made : to_F, y);
      for (int j = 0; F - i < PAIR && j < F - i; j++) to_F[j] = made[j];
    }
}

/* `draw.draw`: logits (N, V), u (N) -> token, logprob, entropy, (N). Temperature 0 is greedy. scratch (N, V + PAIR). */
void draw(long N, long V, const float *logits, float temperature, const double *u, float *scratch, int64_t *token,
          float *logprob, float *entropy) {
  const float sharpness = temperature ? 1 / temperature : 1;
#pragma omp parallel for schedule(static)
  for (long n = 0; n < N; n++) {
    const float *z = logits + n * V;
    float *e = scratch + n * (V + PAIR), most = -INFINITY;
    double sum = 0, weighted = 0, passed = 0;
#pragma omp simd reduction(max : most)
    for (long i = 0; i < V; i++) most = z[i] > most ? z[i] : most;
    for (long i = 0; i < V; i += PAIR) {
      lanes below[2], p[2], part = {0};
      part_floats(z + i, V - i, -INFINITY, below);
      for (int j = 0; j < 2; j++) {
        below[j] = (below[j] - most) * sharpness;
        p[j] = ((lanes *)(e + i))[j] = exponential(below[j]);
        part += select(p[j] == 0, p[j], p[j] * below[j]); /* 0 where the logit is minus infinity */
      }
      sum += total(p[0] + p[1]);
      weighted += total(part);
    }
    long i = 0;
    if (temperature) { /* PAIR tokens at a time, then one; none of probability 0, whatever is lost in rounding */
      double threshold = u[n] * sum, before = 0;
      for (long j = 0; j < V && passed <= threshold; j += PAIR) {
        double here = total(((lanes *)(e + j))[0] + ((lanes *)(e + j))[1]);
        if (here > 0) i = j, before = passed;
        passed += here;
      }
      for (long j = i, end = i + PAIR < V ? i + PAIR : V; j < end && before <= threshold; j++)
        if (e[j] > 0) i = j, before += e[j];
    } else
      while (z[i] < most) i++;
    token[n] = i;
    logprob[n] = (z[i] - most) * sharpness - log(sum);
    double h = log(sum) - weighted / sum;
    entropy[n] = h < 0 ? 0 : h;
  }
}
