/* Strings made to be awkward, 2,600 of them in 13 groups, for the suites of tokenizers: the same
 * here and in hostile.py, which reads the atoms from this file. Golden files hold a hash of what
 * the library answers for every ten strings. Needs test.h only.
 *
 *     static size_t answer(uint32_t *out, const char *text, size_t size, const void *context);
 *     tiny_hostile_check("spans/gpt2", TINY_HOSTILE_VALID, answer, NULL);
 *
 * checks the first groups up to the one named. The function writes its numbers (lengths of spans,
 * ids; at most TINY_HOSTILE_MOST) and returns how many these are. The text stands in memory of
 * exactly its size. TEST_HOSTILE=1 prints the answers, to find the string among the ten. */
#ifndef TINY_HOSTILE_H
#define TINY_HOSTILE_H

#include <stdint.h>

enum {
    TINY_HOSTILE_MIX = 10,    /* this group and the next two draw from all lists below */
    TINY_HOSTILE_KNOWN = 11,  /* groups with characters that every Unicode since 14 knows */
    TINY_HOSTILE_VALID = 12,  /* group 11: any code point now and then, assigned or not */
    TINY_HOSTILE_GROUPS = 13, /* group 12: broken UTF-8 as well */
    TINY_HOSTILE_EACH = 200,  /* strings in a group */
    TINY_HOSTILE_BLOCK = 10,  /* strings in a hash */
    TINY_HOSTILE_MOST = 4096  /* bytes in a string */
};

/* The atoms of a group, separated by spaces; `X` is the code point X in hexadecimal. */
static const char *const tiny_hostile_atoms[TINY_HOSTILE_MIX] = {
    /* 0: prose */
    "the The THE a I and Don't don't DON'T I'm he'll HE'LL we've they'd it's 's 'S 're 'T ' ' . , "
    "! ? ; : \" ( ) - -- ... `20` `20` `20` `20` `20` caf`E9` na`EF`ve `DF` HelloWorld iPhone "
    "XMLParser x `2019`s `201C` `201D` `2014` `2026` '`17F` `17F` `130` `131` `212A` `A` `20``20`",
    /* 1: every general category */
    "`405` `4E6` `1E2E` `1F2F` `A64E` `FF2D` `1D437` `1D612` `199` `275` `3C6` `1E83` `AB30` "
    "`ABAE` `1D55D` `1D6A0` `1C5` `1F2` `1F8B` `1F9E` `81A` `1843` `1D34` `1D55` `A718` `AB69` "
    "`10795` `1E94B` `797` `998` `1695` `1BD2` `6BC3` `81DB` `204BA` `20791` `301` `305` `6E7` "
    "`2D7F` `A8ED` `A92D` `115DC` `11C9E` `BCC` `D48` `17C0` `1A72` `A8BA` `AAEB` `11440` `16FF0` "
    "`488` `20DD` `20DE` `20E0` `A671` `A672` `969` `B6A` `BEA` `E55` `A9D8` `A9F2` `104A1` "
    "`16A63` `2161` `2170` `2173` `217B` `3038` `A6EF` `1016F` `1243F` `B74` `F2B` `2461` `24EB` "
    "`3194` `325B` `11FCF` `1D2EB` `203F` `2040` `2054` `FE4E` `FE4F` `58A` `2013` `2E1A` "
    "`30A0` `FE32` `208D` `2770` `27EC` `298D` `FE17` `FE3D` `2309` `27C6` `2992` `29D9` "
    "`FE40` `FE5C` `AB` `201F` `2039` `2E02` `2019` `203A` `2E03` `2E05` `E5A` `1A1E` `1C7E` "
    "`2016` `FE4C` `FF0A` `10AF4` `1123D` `2283` `239F` `23AA` `2A47` `FE64` `FF5E` `1D6FB` "
    "`1D735` `A5` `9FB` `20AF` `20BF` `FDFC` `FFE0` `11FE0` `1E2FF` `2C2` `2EF` `2F1` `2FD` "
    "`AB5B` `FBBB` `1F3FC` `1F3FE` `2106` `21E5` `2884` `2FB4` `326F` `32D7` `1F4CD` `1F792` "
    "`2000` `2004` `2008` `200A` `3000` `2028` `2029` `83` `89` `97` `9A` `70F` `200F` "
    "`2066` `FFF9` `FFFB` `E0060` `E0065` `EA2A` `EF54` `F8C4E` `F9500` `FFFE` `FFFF` `1FFFE` "
    "`10FFFF` `FDD0` a B 1 . `20` `20` `20`",
    /* 2: combining marks */
    "e`301` E`301` a`308``304` o`302``323` o`323``302` `301` `323` `20``301` `344` `390` "
    "`3B9``308``301` `212B` `C5` A`30A` s`323``307` s`307``323` `1E69` `928``94D``924` `915``93C` "
    "`958` `B95``BCD` `F71``F72` `F73` `5E9``5C1` `FB2C` `345` `34F` `20DD` `FB01` `FF76``FF9E` "
    "`2126` `1F82` `38F` a z N n`303` `F1` `20` `BD` `2460` `FE0F`",
    /* 3: emoji */
    "`1F600` `1F44D` `1F44D``1F3FD` `1F468``200D``1F469``200D``1F467` `1F469``200D``2764``FE0F``"
    "200D``1F468` `1F1E9``1F1EA` `1F1FA``1F1F8` `1F1E6` `200D` `FE0F` `2764` `2764``FE0F` "
    "1`FE0F``20E3` #`20E3` `1F3F4``E0067``E0062``E0065``E006E``E0067``E007F` `1F3F3``FE0F``200D``"
    "1F308` `A9` `A9``FE0F` `1F9D1``1F3FB``200D``1F91D``200D``1F9D1``1F3FF` `2639` `1F3FB` `20` x "
    "! `231A` `3030`",
    /* 4: right to left */
    "`5E9``5DC``5D5``5DD` `5D0` `5B8` `5BC` `5F3` `5BE` `627``644` `633``644``627``645` `64B` "
    "`651``64E` `640` `660``661``662` `6F3` `61F` `60C` `200F` `202B` `202E` `2067` `2069` `600` "
    "`6DD` `FEFB` `FDF2` `FDFA` `7CA` `20` `20` . 12 ( ) a",
    /* 5: scripts of Asia */
    "`4E2D` `6587` `4E2D``6587``5B57` `3042` `30AB``30FC` `30AC` `FF71` `3099` `309B` `AC00` "
    "`AC01` `D55C``AE00` `1100``1161` `1100``1161``11A8` `1161` `11A8` `AC00``11A8` `A960` "
    "`D7B0` `D7CB` `F900` `2F800` `20000` `3400` `FA0E` `E01``E33` `E40``E01` `E38` `E48` "
    "`915``94D``937``93F` `939``93F``902``926``940` `9AC``9BE``982` `0DC1``0DCA``200D``0DBB` "
    "`1780``17D2``1798` `1019``103C``1014``103A` `F40``F0B` `A000` `3001` `3002` `FF01` `FF21` "
    "`FF11` `3000` `20` A a 1",
    /* 6: white space and controls */
    "`20` `20` `20` `20``20` `20``20``20` `9` `9``9` `A` `A` `A``A` `D``A` `D``A``D``A` `D` `B` "
    "`C` `0` `0``0` `1` `1B` `1C` `1F` `7F` `85` `A0` `AD` `180E` `2003` `200B` `2028` `2029` "
    "`202F` `205F` `2060` `3000` `FEFF` `FFFD` a B 7 . / 's `2581`",
    /* 7: numbers */
    "0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 . , - + % e E "
    "0x `B2` `BD` `661` `96A` `2167` `2460` `FF15` `1D7D8` `4E00` `20` `20` $ `20AC` a",
    /* 8: long words */
    "a b c de tion ing un re sh Q X ss `E9` `439` `4E2D` `3C3` `E01` `301` _ - ab abc 1",
    /* 9: code */
    "int x if else return for while ( ) (( )) { } [ ] [0] ; ;`A` { `A` } = == != += -> :: // "
    "/* */ # #include <stdio.h> `9` `9``9` `A` `A``A` `A``20``20``20``20` "
    "`20``20``20``20``20``20``20``20` `20` `20` `20` \" \\n \\ ' '\\0' 0x1F 3.14f camelCase "
    "snake_case __init__ a.b.c @ $ % & | ~ ^ <a> </a> https://a.b/c?d=e&f#g def lambda: None"};

typedef struct {
    uint64_t state;
    size_t size;
    char *text;
} tiny_hostile_maker;

/* splitmix64, from 0 to n - 1 */
static size_t tiny_hostile_below(tiny_hostile_maker *m, size_t n) {
    uint64_t z = m->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (size_t)((z ^ z >> 31) >> 33) % n;
}

static void tiny_hostile_byte(tiny_hostile_maker *m, uint32_t byte) {
    if (m->size >= TINY_HOSTILE_MOST) test_fail(__FILE__, __LINE__, "a string is too long");
    m->text[m->size++] = (char)(unsigned char)byte;
}

static void tiny_hostile_code(tiny_hostile_maker *m, uint32_t c) {
    static const uint32_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    const uint32_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    tiny_hostile_byte(m, lead[n] | c >> 6 * (n - 1));
    for (uint32_t i = n - 1; i-- > 0;) tiny_hostile_byte(m, 0x80 | (c >> 6 * i & 0x3F));
}

/* One of the atoms of a list, `times` times. */
static void tiny_hostile_atom(tiny_hostile_maker *m, size_t list, size_t times) {
    const char *s = tiny_hostile_atoms[list];
    size_t count = 1;
    for (const char *p = s; *p; p++) count += *p == ' ';
    for (size_t skip = tiny_hostile_below(m, count); skip > 0; s++) skip -= *s == ' ';
    const char *end = s + strcspn(s, " ");
    while (times-- > 0)
        for (const char *p = s; p < end; p++)
            if (*p == '`') {
                char *after;
                tiny_hostile_code(m, (uint32_t)strtoul(p + 1, &after, 16));
                p = after;
            } else
                tiny_hostile_byte(m, (unsigned char)*p);
}

/* text (TINY_HOSTILE_MOST) <- string i of a group; returns its size. The first strings of a group
 * are short. */
TEST_UNUSED static size_t tiny_hostile(char *text, size_t group, size_t i) {
    static const unsigned char broken[12] = {0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC3,
                                             0xE2, 0xE0, 0xED, 0xF0, 0xF4, 0xFF};
    static const uint32_t below[4] = {0x250, 0x3000, 0x20000, 0x110000};
    tiny_hostile_maker m = {1000 * group + i, 0, text};
    size_t n = tiny_hostile_below(&m, i < 40 ? 4 : group == 7 ? 40 : group == 8 ? 5 : 24);
    for (; n > 0; n--) {
        if (group == 8) {
            tiny_hostile_atom(&m, 8, 1 + tiny_hostile_below(&m, i % 20 == 19 ? 500 : 60));
            for (size_t k = tiny_hostile_below(&m, 3); k > 0; k--) tiny_hostile_atom(&m, 8, 1);
            if (tiny_hostile_below(&m, 3) == 0) tiny_hostile_byte(&m, ' ');
        } else if (group < TINY_HOSTILE_MIX) {
            tiny_hostile_atom(&m, group, 1);
        } else {
            const size_t extra = group > TINY_HOSTILE_MIX ? tiny_hostile_below(&m, 4) : 1;
            tiny_hostile_atom(&m, tiny_hostile_below(&m, TINY_HOSTILE_MIX), 1);
            if (extra == 0 && group == 11) {
                const uint32_t c =
                    (uint32_t)tiny_hostile_below(&m, below[tiny_hostile_below(&m, 4)]);
                tiny_hostile_code(&m, c >= 0xD800 && c < 0xE000 ? c - 0xD800 : c);
            } else if (extra == 0 && tiny_hostile_below(&m, 2) == 0) {
                tiny_hostile_byte(&m, broken[tiny_hostile_below(&m, 12)]);
            } else if (extra == 0 && m.size > 0) {
                m.size--; /* the last byte goes */
            }
        }
    }
    return m.size;
}

/* FNV-1a over the four bytes of each number. */
TEST_UNUSED static uint32_t tiny_hostile_hash(uint32_t hash, const uint32_t *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < 32; k += 8) hash = (hash ^ (x[i] >> k & 255)) * 16777619u;
    return hash;
}

typedef size_t tiny_hostile_answer(uint32_t *out, const char *text, size_t size,
                                   const void *context);

/* The answer: the bytes themselves. A difference here is one between the two makers. */
TEST_UNUSED static size_t tiny_hostile_bytes(uint32_t *out, const char *text, size_t size,
                                             const void *context) {
    (void)context;
    for (size_t i = 0; i < size; i++) out[i] = (unsigned char)text[i];
    return size;
}

/* Golden array `name`: for every ten strings of the first `groups` groups the hash of, for each,
 * the number of its answers and these; 24 bits, which a float holds. */
TEST_UNUSED static void tiny_hostile_check(const char *name, size_t groups,
                                           tiny_hostile_answer *answer, const void *context) {
    const size_t blocks = TINY_HOSTILE_EACH / TINY_HOSTILE_BLOCK;
    char *text = (char *)malloc(TINY_HOSTILE_MOST);
    uint32_t *out = (uint32_t *)malloc((TINY_HOSTILE_MOST + 1) * sizeof *out);
    size_t count;
    const float *want = golden_n(&count, "%s", name);
    if (!text || !out || count != groups * blocks)
        test_fail(__FILE__, __LINE__, "%s has %zu hashes, not %zu", name, count, groups * blocks);
    for (size_t b = 0; b < count; b++) {
        uint32_t hash = 2166136261u;
        for (size_t k = 0; k < TINY_HOSTILE_BLOCK; k++) {
            const size_t group = b / blocks, i = b % blocks * TINY_HOSTILE_BLOCK + k;
            const size_t size = tiny_hostile(text, group, i);
            char *exact = (char *)malloc(size); /* so that reading on is noticed */
            if (size > 0) memcpy(exact, text, size);
            out[0] = (uint32_t)answer(out + 1, exact, size, context);
            free(exact);
            hash = tiny_hostile_hash(hash, out, out[0] + 1);
            if (!getenv("TEST_HOSTILE")) continue;
            printf("%s %zu %zu:", name, group, i);
            for (uint32_t j = 1; j <= out[0]; j++) printf(" %u", out[j]);
            printf("\n");
        }
        if ((float)((hash ^ hash >> 24) & 0xFFFFFF) != want[b])
            test_fail(__FILE__, __LINE__,
                      "%s: wrong for one of the strings %zu to %zu of group %zu (TEST_HOSTILE=1 "
                      "prints the answers)",
                      name, b % blocks * TINY_HOSTILE_BLOCK,
                      b % blocks * TINY_HOSTILE_BLOCK + TINY_HOSTILE_BLOCK - 1, b / blocks);
    }
    free(text);
    free(out);
}

#endif
