/* @sha256 */
#include "../test.h"

#include "../../llm.h"

static const char *sha_of(const void *data, size_t size) {
    static char hex[65];
    llm_sha256 s;
    llm_sha256_begin(&s);
    llm_sha256_put(&s, data, size);
    memset(hex, 1, sizeof hex);
    llm_sha256_end(&s, hex);
    return hex;
}

TEST(sha256, "the examples of the standard, and a million letters") {
    CHECK(strcmp(sha_of("abc", 3),
                 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    CHECK(strcmp(sha_of("", 0),
                 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") == 0);
    CHECK(strcmp(sha_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56),
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1") == 0);
    char *many = (char *)test_memory(1000000, 1);
    memset(many, 'a', 1000000);
    CHECK(strcmp(sha_of(many, 1000000),
                 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0);
}

TEST(sha256, "hashlib's fingerprints of 0 to 300 bytes, put in whole and in pieces") {
    const float *first = golden("length/first"), *last = golden("length/last");
    unsigned char message[300];
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 300; i++) message[i] = (unsigned char)(7 * i + i / 256);
    for (size_t n = 0; n <= 300; n++) {
        char want[2][7], hex[65];
        snprintf(want[0], 7, "%06x", (unsigned)first[n]);
        snprintf(want[1], 7, "%06x", (unsigned)last[n]);
        const char *whole = sha_of(message, n);
        CHECK(memcmp(whole, want[0], 6) == 0 && strcmp(whole + 58, want[1]) == 0);
        llm_sha256 s;
        llm_sha256_begin(&s);
        for (size_t at = 0, part; at < n; at += part) {
            part = 1 + llm_rng_below(&rng, 130);
            if (part > n - at) part = n - at;
            llm_sha256_put(&s, message + at, part);
        }
        llm_sha256_end(&s, hex);
        CHECK(strcmp(hex, whole) == 0);
    }
}

TEST(sha256, "the constants do not hang on the last bits of a root") {
    /* the 16 bits behind the 32 that count are neither all 0 nor all 1: an error of some units in
     * the last place of the double changes no constant. The standard's first and last: */
    llm_sha256 s;
    llm_sha256_begin(&s);
    CHECK(s.constant[0] == 0x428a2f98 && s.constant[63] == 0xc67178f2);
    CHECK(s.state[0] == 0x6a09e667 && s.state[7] == 0x5be0cd19);
    size_t primes = 0;
    for (int p = 2; primes < 64; p++) {
        bool prime = true;
        for (int d = 2; d < p; d++) prime = prime && p % d != 0;
        if (!prime) continue;
        for (int cube = 0; cube < (primes < 8 ? 2 : 1); cube++) {
            const double root = cube ? sqrt((double)p) : cbrt((double)p);
            const uint64_t behind = (uint64_t)(root * 281474976710656.0) & 0xffff;
            CHECK(behind > 8 && behind < 0xffff - 8);
        }
        primes++;
    }
}
