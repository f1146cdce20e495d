// Attention of one new token a row over the keys and values of its cache, each of which is read once.
//
// A block is one head of one window. Its warps take keys in turn; a warp reads four keys at a time, eight lanes to each
// (16 bytes a lane), so every read is whole lines. Each group of eight lanes keeps a running maximum, sum and mean of
// its own keys, and all of them are put together at the end. Arithmetic is float32.

typedef unsigned int u32;
typedef long long i64;

struct half_type {
    static __device__ __forceinline__ float low(u32 pair) {
        float f;
        asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, a;}" : "=f"(f) : "r"(pair));
        return f;
    }
    static __device__ __forceinline__ float high(u32 pair) {
        float f;
        asm("{.reg .b16 a, b; mov.b32 {a, b}, %1; cvt.f32.f16 %0, b;}" : "=f"(f) : "r"(pair));
        return f;
    }
    static __device__ __forceinline__ u32 pack(float low, float high) {
        u32 pair;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
};

struct bfloat_type {
    static __device__ __forceinline__ float low(u32 pair) { return __uint_as_float(pair << 16); }
    static __device__ __forceinline__ float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
    static __device__ __forceinline__ u32 pack(float low, float high) {
        u32 pair;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
};

template <typename T>
__device__ __forceinline__ void unpack(const uint4& raw, float* to) {
    to[0] = T::low(raw.x), to[1] = T::high(raw.x), to[2] = T::low(raw.y), to[3] = T::high(raw.y);
    to[4] = T::low(raw.z), to[5] = T::high(raw.z), to[6] = T::low(raw.w), to[7] = T::high(raw.w);
}

#define WIDTH 64     // numbers in a head
#define EACH 8       // numbers a lane has: 16 bytes
#define LANES 8      // lanes to a key
#define WARPS 4
#define NONE (-1e30f)

#define AT_ONCE 6    // keys of each eight lanes whose reads are under way together

// Compiled with KIND (half_type or bfloat_type) defined: one kernel at a time.
extern "C" __global__ void __launch_bounds__(WARPS * 32) attend_rows(
    const uint4* __restrict__ queries,  // (rows, heads, WIDTH), rows query_stride apart
    const uint4* __restrict__ new_key,  // as queries: the row's own new key, kept at its place; null if there is none
    const uint4* __restrict__ new_value,
    uint4* keys,                        // (rows or windows, heads, length, WIDTH)
    uint4* values,                      // the same
    uint4* __restrict__ out,            // (rows, heads, WIDTH)
    const i64* __restrict__ places,     // (rows): the place of the new key, after all others; null for all of `length`
    const bool* __restrict__ open,      // (windows): whether a window is being decoded; others cost nothing
    const int* __restrict__ table,      // (rows, table_stride): the row each key of a row lies in; null for its own
    int length, int table_stride, int rows_of_window, i64 query_stride, i64 row_stride, i64 head_stride)
{
    using T = KIND;
    const int head = blockIdx.x, heads = gridDim.x, row = blockIdx.y;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int part = lane & (LANES - 1), quarter = lane / LANES;
    const int stream = warp * 4 + quarter, streams = WARPS * 4;
    if (!open[row / rows_of_window]) {
        if (threadIdx.x < LANES) out[((i64)row * heads + head) * LANES + threadIdx.x] = make_uint4(0, 0, 0, 0);
        return;
    }
    const int count = places ? (int)places[row] : length;

    float q[EACH], sum = 0.0f, best = NONE, mean[EACH];
    unpack<T>(queries[row * query_stride + head * LANES + part], q);
    #pragma unroll
    for (int i = 0; i < EACH; i++) q[i] *= 0.125f, mean[i] = 0.0f;  // 64 to the power of -1/2
    if (new_key && warp == 0) {
        const i64 from = row * query_stride + head * LANES + part;
        const uint4 key = new_key[from], value = new_value[from];
        float k[EACH], dot = 0.0f;
        unpack<T>(key, k);
        #pragma unroll
        for (int i = 0; i < EACH; i++) dot = fmaf(q[i], k[i], dot);
        #pragma unroll
        for (int other = 1; other < LANES; other *= 2) dot += __shfl_xor_sync(0xffffffffu, dot, other);
        if (quarter == 0) {
            const i64 at = (row * row_stride + head * head_stride) / EACH + (i64)count * LANES + part;
            keys[at] = key, values[at] = value;
            best = dot, sum = 1.0f;
            unpack<T>(value, mean);
        }
    }

    // All lanes of a warp go round equally often: they exchange numbers.
    for (int base = warp * 4; base < count; base += streams * AT_ONCE) {
        const int first = base + quarter;
        uint4 raw_keys[AT_ONCE], raw_values[AT_ONCE];
        #pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            const int key = first + n * streams;
            if (key < count) {
                const i64 from = table ? table[(i64)row * table_stride + key] : row;
                const i64 at = (from * row_stride + head * head_stride) / EACH + (i64)key * LANES + part;
                raw_keys[n] = keys[at];
                raw_values[n] = values[at];
            } else {
                raw_keys[n] = raw_values[n] = make_uint4(0, 0, 0, 0);
            }
        }
        float score[AT_ONCE], top = best;
        #pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            float k[EACH], dot = 0.0f;
            unpack<T>(raw_keys[n], k);
            #pragma unroll
            for (int i = 0; i < EACH; i++) dot = fmaf(q[i], k[i], dot);
            #pragma unroll
            for (int other = 1; other < LANES; other *= 2) dot += __shfl_xor_sync(0xffffffffu, dot, other);
            score[n] = first + n * streams < count ? dot : NONE;
            top = fmaxf(top, score[n]);
        }
        const float less = __expf(best - top);
        best = top;
        sum *= less;
        #pragma unroll
        for (int i = 0; i < EACH; i++) mean[i] *= less;
        #pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            float v[EACH];
            const float weight = first + n * streams < count ? __expf(score[n] - top) : 0.0f;
            unpack<T>(raw_values[n], v);
            sum += weight;
            #pragma unroll
            for (int i = 0; i < EACH; i++) mean[i] = fmaf(weight, v[i], mean[i]);
        }
    }

    __shared__ float bests[WARPS * 4], sums[WARPS * 4], means[WARPS * 4][WIDTH];
    if (part == 0) bests[stream] = best, sums[stream] = sum;
    #pragma unroll
    for (int i = 0; i < EACH; i++) means[stream][part * EACH + i] = mean[i];
    __syncthreads();
    if (threadIdx.x < WIDTH / 2) {
        float top = NONE, total = 0.0f, low = 0.0f, high = 0.0f;
        for (int s = 0; s < WARPS * 4; s++) top = fmaxf(top, bests[s]);
        for (int s = 0; s < WARPS * 4; s++) {
            const float weight = __expf(bests[s] - top);
            total = fmaf(weight, sums[s], total);
            low = fmaf(weight, means[s][2 * threadIdx.x], low);
            high = fmaf(weight, means[s][2 * threadIdx.x + 1], high);
        }
        u32* to = (u32*)(out + ((i64)row * heads + head) * LANES);
        to[threadIdx.x] = T::pack(low / total, high / total);
    }
}
