// Calls the kernels on inputs from a file and writes what they return: so that those for another processor can be tested
// under an emulator that has neither Python nor PyTorch.
//
//     run_kernels INPUT OUTPUT
//
// INPUT: cases, each a number of integers and they themselves (int64), a number of buffers, and for each its bytes with
// their number before. The first integer says which kernel. OUTPUT: the buffers that kernel writes, in the same form.
#include <cstdio>
#include <vector>

#include "../../../qianwen/kernels/cpu/kernels.cpp"

using Buffer = std::vector<uint8_t>;

static bool read_number(FILE* file, int64_t& number) { return fread(&number, sizeof number, 1, file) == 1; }

template <class T> static T* as(Buffer& buffer) { return buffer.empty() ? nullptr : reinterpret_cast<T*>(buffer.data()); }

// The buffers that the kernel wrote.
static std::vector<Buffer> call(const std::vector<int64_t>& n, std::vector<Buffer>& b) {
    const auto floats = [](int64_t count) { return Buffer(count * sizeof(float)); };
    switch (n[0]) {
        case 0: {  // linear: inputs, outputs, format, few, some, rows | packed, bias, x
            const Linear linear{b[0].data(), as<float>(b[1]), n[1], n[2], n[3], n[4], n[5], 0};
            Buffer y = floats(n[6] * n[2]);
            qw_linear(&linear, as<float>(b[2]), n[6], as<float>(y));
            return {y};
        }
        case 1: {  // norm: rows, size | x, weight, residual
            Buffer out = floats(n[1] * n[2]);
            qw_rms_norm(as<float>(b[0]), as<float>(b[1]), 1e-6f, n[1], n[2], as<float>(b[2]), as<float>(out));
            return {out, b[2]};
        }
        case 2: {  // gate: rows, size | gate and up
            Buffer out = floats(n[1] * n[2]);
            qw_silu_mul(as<float>(b[0]), n[1], n[2], as<float>(out));
            return {out};
        }
        case 3:  // rotation: tokens, heads, kv_heads, dim | q, k, cos, sin
            qw_rope(as<float>(b[0]), n[2] * n[4], n[2], as<float>(b[1]), n[3] * n[4], n[3], n[1], n[4], as<float>(b[2]), as<float>(b[3]));
            return {b[0], b[1]};
        case 4: {  // attention: is_bfloat16, page_size, kv_heads, dim, table_size, sequences, heads, window, tokens | k, v, tables, …
            const Cache cache{b[0].data(), b[1].data(), n[1], n[2], n[3], n[4], as<int32_t>(b[2]), n[5], as<int32_t>(b[3]), as<int32_t>(b[4]), n[6]};
            Buffer out = floats(n[9] * n[7] * n[4]);
            const Queries queries{as<float>(b[5]), n[7] * n[4], n[7], 1.0f / std::sqrt((float)n[4]), n[8], as<float>(out)};
            qw_paged_attention(&cache, &queries, 0);
            return {out};
        }
        case 5: {  // documents: heads, kv_heads, dim, tokens | q, k, v, first, d_out
            Buffer out(n[4] * n[1] * n[3] * 2), norms = floats(n[1] * n[4]), dq(out), dk(b[1].size()), dv(b[2].size());
            const Documents documents{as<uint16_t>(b[0]), as<uint16_t>(b[1]), as<uint16_t>(b[2]), n[1] * n[3], n[2] * n[3], n[2] * n[3],
                                      n[1], n[2], n[3], n[4], as<int32_t>(b[3]), 1.0f / std::sqrt((float)n[3]), as<uint16_t>(out), as<float>(norms)};
            qw_attend_documents(&documents);
            const DocumentGradients gradients{as<uint16_t>(b[4]), as<uint16_t>(dq), as<uint16_t>(dk), as<uint16_t>(dv)};
            qw_differentiate_documents(&documents, &gradients);
            return {out, dq, dk, dv};
        }
        case 6: {  // loss: rows, size | scores, targets
            Buffer losses = floats(n[1]);
            qw_softmax_loss(as<uint16_t>(b[0]), as<int64_t>(b[1]), n[1], n[2], as<float>(losses));
            return {losses, b[0]};
        }
        case 7: {  // grids: rows, inputs, top, ranges | weights, importance
            Buffer steps = floats(n[1] * n[2] / 32), lows(steps);
            qw_fit(as<float>(b[0]), n[1], n[2], as<float>(b[1]), n[3], n[4], as<float>(steps), as<float>(lows));
            return {steps, lows};
        }
    }
    return {};
}

int main(int, char** names) {
    FILE *input = fopen(names[1], "rb"), *output = fopen(names[2], "wb");
    for (int64_t count; read_number(input, count);) {
        std::vector<int64_t> numbers(count);
        for (int64_t& number : numbers) read_number(input, number);
        read_number(input, count);
        std::vector<Buffer> buffers(count);
        for (Buffer& buffer : buffers) {
            read_number(input, count);
            buffer.resize(count);
            if (count && fread(buffer.data(), 1, count, input) != (size_t)count) return 1;
        }
        for (const Buffer& buffer : call(numbers, buffers)) {
            const int64_t size = buffer.size();
            fwrite(&size, sizeof size, 1, output);
            fwrite(buffer.data(), 1, size, output);
        }
    }
    return fclose(output);
}
