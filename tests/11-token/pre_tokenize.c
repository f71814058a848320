/* @pre_tokenize */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_hostile.h"

static const char *const pre_tokenize_name[5] = {"gpt2", "cl100k", "o200k", "llama3", "qwen2"};

/* The ends of the pre-tokens of text, as one character for each byte: '|' at the last one. Text is
 * copied to memory of exactly its size, so that reading on is noticed. */
static const char *pre_tokenize_cuts(const char *text, size_t size, llm_pre_tokenize_kind kind) {
    char *copy = (char *)test_memory(size, 1), *cuts = (char *)test_memory(size + 1, 1);
    memcpy(copy, text, size);
    memset(cuts, '.', size);
    for (size_t at = 0; at < size;) {
        const size_t n = llm_pre_tokenize(copy + at, size - at, kind);
        if (n == 0 || n > size - at)
            test_fail(__FILE__, __LINE__, "%s: %zu of %zu bytes", pre_tokenize_name[kind], n, size);
        at += n;
        cuts[at - 1] = '|';
    }
    return cuts;
}

TEST(pre_tokenize, "spans are those of the regex module with the published patterns") {
    size_t pairs, count, size = 0, at = 0;
    const float *text_values = golden_n(&pairs, "spans/text");
    const float *sizes = golden_n(&count, "spans/size");
    const size_t *pair = as_sizes(text_values, pairs), *length = as_sizes(sizes, count);
    char *text = (char *)test_memory(2 * pairs, 1);
    for (size_t i = 0; i < pairs; i++) {
        text[2 * i] = (char)(unsigned char)(pair[i] >> 8);
        text[2 * i + 1] = (char)(unsigned char)(pair[i] & 255);
    }
    for (size_t s = 0; s < count; s++) size += length[s];
    CHECK(count > 150 && (size + 1) / 2 == pairs);
    for (int kind = 0; kind < 5; kind++) {
        size_t words;
        const float *bits = golden_n(&words, "spans/%s", pre_tokenize_name[kind]);
        CHECK(words == size / 16 + 1);
        for (size_t s = at = 0; s < count; at += length[s++]) {
            const char *cuts = pre_tokenize_cuts(text + at, length[s], (llm_pre_tokenize_kind)kind);
            for (size_t i = 0; i < length[s]; i++) {
                const bool want = (unsigned)bits[(at + i) / 16] >> (at + i) % 16 & 1;
                if ((cuts[i] == '|') != want)
                    test_fail(__FILE__, __LINE__, "%s, string %zu, byte %zu: found %s in \"%.*s\"",
                              pre_tokenize_name[kind], s, i, want ? "no cut" : "a cut",
                              (int)length[s], text + at);
            }
        }
    }
}

/* the lengths of all pre-tokens; context: the kind */
static size_t pre_tokenize_lengths(uint32_t *out, const char *text, size_t size,
                                   const void *context) {
    size_t n = 0;
    for (size_t at = 0; at < size; at += out[n++])
        out[n] = (uint32_t)llm_pre_tokenize(text + at, size - at,
                                            *(const llm_pre_tokenize_kind *)context);
    return n;
}

TEST(pre_tokenize, "2,600 hostile strings are cut as by the regex module") {
    for (int i = 0; i < 5; i++) {
        const llm_pre_tokenize_kind kind = (llm_pre_tokenize_kind)i;
        char array[32];
        snprintf(array, sizeof array, "hostile/%s", pre_tokenize_name[i]);
        tiny_hostile_check(array, TINY_HOSTILE_GROUPS, pre_tokenize_lengths, &kind);
    }
}

TEST(pre_tokenize, "each rule by hand") {
    static const struct {
        const char *text, *want[5];
    } row[] = {
        {"Hi there", {".|.....|", ".|.....|", ".|.....|", ".|.....|", ".|.....|"}},
        {"it's IT'S", {".|.|..|||", ".|.|..|.|", "...|....|", ".|.|..|.|", ".|.|..|.|"}},
        {"a  b", {"||.|", "||.|", "||.|", "||.|", "||.|"}},
        {"12345", {"....|", "..|.|", "..|.|", "..|.|", "|||||"}},
        {" 7", {".|", "||", "||", "||", "||"}},
        {"(ab", {"|.|", "..|", "..|", "..|", "..|"}},
        {"aBc", {"..|", "..|", "|.|", "..|", "..|"}},
        {"ABc", {"..|", "..|", "..|", "..|", "..|"}},
        {"a \n b", {"|.|.|", "|.|.|", "|.|.|", "|.|.|", "|.|.|"}},
        {"a \n ", {"|..|", "|..|", "|.||", "|.||", "|.||"}},
        {"!\n/x", {"||||", ".|.|", "..||", ".|.|", ".|.|"}},
    };
    for (size_t r = 0; r < sizeof row / sizeof row[0]; r++)
        for (int kind = 0; kind < 5; kind++) {
            const char *got =
                pre_tokenize_cuts(row[r].text, strlen(row[r].text), (llm_pre_tokenize_kind)kind);
            if (strcmp(got, row[r].want[kind]) != 0)
                test_fail(__FILE__, __LINE__, "%s of \"%s\" is %s, want %s",
                          pre_tokenize_name[kind], row[r].text, got, row[r].want[kind]);
        }
    const char *nothing = (const char *)test_memory(8, 1) + 8; /* reading it is noticed */
    for (int kind = 0; kind < 5; kind++)
        CHECK(llm_pre_tokenize(nothing, 0, (llm_pre_tokenize_kind)kind) == 0);
}

TEST(pre_tokenize, "of all short strings, the contractions are those of the list") {
    static const char *const list[8] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'\xC5\xBF"};
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++)
            for (size_t size = 0; size < 4; size++) {
                const unsigned char from[3] = {'\'', (unsigned char)a, (unsigned char)b};
                char text[8],
                    *exact = text + 8 - size; /* at the end, so that reading on is noticed */
                memcpy(exact, from, size);
                for (int any_case = 0; any_case < 2; any_case++) {
                    size_t want = 0;
                    for (size_t i = 0; i < 8 && size > 0; i++) {
                        const size_t n = strlen(list[i]);
                        bool same = n <= size && (i < 7 || any_case);
                        for (size_t k = 0; k < n && same; k++) {
                            const bool capital = any_case && exact[k] >= 'A' && exact[k] <= 'Z';
                            same = list[i][k] == exact[k] + (capital ? 32 : 0);
                        }
                        if (same) want = n;
                    }
                    CHECK(llm_pre_tokenize_suffix(exact, size, any_case) == want);
                }
            }
}

TEST(pre_tokenize, "bytes that are no UTF-8 are cut like U+FFFD") {
    static const unsigned char from[12] = {'a',  'B',  ' ',  '\n', '1',  '\'',
                                           0x80, 0xC3, 0xE2, 0x82, 0xF0, 0x9F};
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 3000; turn++) {
        char broken[12], mended[48];
        const size_t size = 1 + llm_rng_below(&rng, 12);
        size_t length = 0, end[12];
        for (size_t i = 0; i < size; i++) broken[i] = (char)from[llm_rng_below(&rng, 12)];
        for (size_t i = 0, n; i < size; i += n) { /* end[i]: where the character of byte i ends */
            uint32_t code;
            n = llm_unicode_decode(&code, broken + i, size - i);
            length += llm_unicode_encode(mended + length, code);
            for (size_t k = i; k < i + n; k++) end[k] = k + 1 == i + n ? length : 0;
        }
        for (int kind = 0; kind < 5; kind++) {
            const char *a = pre_tokenize_cuts(broken, size, (llm_pre_tokenize_kind)kind);
            const char *b = pre_tokenize_cuts(mended, length, (llm_pre_tokenize_kind)kind);
            size_t cuts = 0;
            for (size_t i = 0; i < size; i++) CHECK(a[i] == (end[i] ? b[end[i] - 1] : '.'));
            for (size_t i = 0; i < length; i++) cuts += b[i] == '|';
            for (size_t i = 0; i < size; i++) cuts -= a[i] == '|';
            CHECK(cuts == 0);
        }
    }
}

TEST(pre_tokenize, "a line of 200,000 characters takes no longer than its pieces") {
    static const char *const unit[14] = {"a",
                                         "A",
                                         " ",
                                         "\n",
                                         "\t",
                                         "1",
                                         "!",
                                         " \n",
                                         "\n\t",
                                         ("\xE4\xB8\xAD"
                                          "A"),
                                         "A!a",
                                         "\xCC\x81",
                                         "'s",
                                         "!/"};
    for (size_t u = 0; u < 14; u++) {
        const size_t n = strlen(unit[u]), size = 200000 / n * n;
        char *text = (char *)test_memory(size + 3, 1);
        for (size_t i = 0; i < size; i++) text[i] = unit[u][i % n];
        for (size_t tail = 0; tail < 2; tail++)
            for (int kind = 0; kind < 5; kind++) {
                memcpy(text + size, "xY!", 3);
                pre_tokenize_cuts(text, size + 3 * tail, (llm_pre_tokenize_kind)kind);
            }
    }
}

TEST(pre_tokenize, "patterns are those of the published files") {
    CHECK(strcmp(llm_pre_tokenize_pattern(LLM_PRE_TOKENIZE_GPT2),
                 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|"
                 "\\s+") == 0);
    CHECK(strcmp(llm_pre_tokenize_pattern(LLM_PRE_TOKENIZE_CL100K),
                 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                 "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+(?![\\s\\S])|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+") ==
          0);
    CHECK(strcmp(llm_pre_tokenize_pattern(LLM_PRE_TOKENIZE_O200K),
                 "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}"
                 "\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}"
                 "\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)"
                 "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+") ==
          0);
    CHECK(strcmp(llm_pre_tokenize_pattern(LLM_PRE_TOKENIZE_LLAMA3),
                 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                 "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+") == 0);
    CHECK(strcmp(llm_pre_tokenize_pattern(LLM_PRE_TOKENIZE_QWEN2),
                 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                 "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+") == 0);
}
