//! Hashes against the programs that they come from.

use super::*;

/// In the order of [`TwemproxyHash::ALL`], computed by the functions `hash_*` of Debian's nutcracker 0.5.0
/// itself on x86-64, where characters have a sign. Those that Debian's libhashkit 1.1.4 has too are the same
/// there.
#[test]
fn hashes_are_those_of_twemproxy() {
    let every: Vec<u8> = (0..250).collect();
    let table: &[(&[u8], [u32; 12])] = &[
        (
            b"",
            [
                0x0000_0000,
                0xd98c_1dd4,
                0x0000_0000,
                0x0000_0000,
                0x0000_0000,
                0x8422_2325,
                0x8422_2325,
                0x811c_9dc5,
                0x811c_9dc5,
                0x0000_0000,
                0x0000_0000,
                0xdead_befc,
            ],
        ),
        (
            b"a",
            [
                0xca2e_9442,
                0xb975_c10c,
                0x0000_7c87,
                0x0000_68b7,
                0xe8b7_be43,
                0x8601_b7be,
                0x8601_ec8c,
                0x050c_5d7e,
                0xe40c_292c,
                0x9364_2e87,
                0x4b41_757c,
                0xe0a3_8690,
            ],
        ),
        (
            b"foo",
            [
                0x2386_78dd,
                0xdb18_bdac,
                0x0c3c_af96,
                0x0000_0c73,
                0x8c73_6521,
                0x6ba1_3533,
                0xfed9_d577,
                0x408f_5e13,
                0xa9f3_7ed7,
                0x76d4_d427,
                0xc4e0_338f,
                0x99f8_4f99,
            ],
        ),
        (
            b"greeting",
            [
                0x8b75_4002,
                0x1103_9e69,
                0x6283_31aa,
                0x0000_46e3,
                0x46e3_a4ab,
                0xb81f_a410,
                0xa0b5_2af6,
                0x5bcd_8330,
                0xd4ed_bfb6,
                0xa7ac_6238,
                0x139e_57b5,
                0x2653_57b0,
            ],
        ),
        (
            b"user:1000",
            [
                0xb563_b74f,
                0x2e98_6207,
                0xe164_4671,
                0x0000_1f74,
                0x9f74_17e3,
                0xd39e_3d21,
                0xae7b_4289,
                0xa6af_fca1,
                0x507c_1d89,
                0xddec_1969,
                0x8e24_aec7,
                0x048c_4d84,
            ],
        ),
        (
            b"schl\xc3\xbcssel",
            [
                0xd21f_7d6f,
                0x0bb0_8626,
                0x6334_1dfd,
                0x0000_65fa,
                0xe5fa_94f6,
                0xdcd8_9e57,
                0x18ea_ec47,
                0xb880_2a77,
                0x650a_aae7,
                0x0ec4_350f,
                0x79cf_82ad,
                0x4419_c803,
            ],
        ),
        (
            b"\x00\x80\xff",
            [
                0x00d2_360d,
                0x9003_aaed,
                0x0091_0568,
                0x0000_69c0,
                0xe9c0_aed4,
                0x6c0e_96c8,
                0x6b5c_2a16,
                0x30b0_cec8,
                0x1654_8536,
                0x711a_e513,
                0x94f2_0317,
                0xd436_6efe,
            ],
        ),
        (
            &[b'k'; 250],
            [
                0x64ea_6c90,
                0x7f7b_2f93,
                0x189a_0b3e,
                0x0000_0497,
                0x0497_7bc1,
                0xee19_992f,
                0x8cb4_08db,
                0x2c09_6bef,
                0xdbec_e11b,
                0x601d_fad4,
                0xd8b0_adcb,
                0x4afa_8cb0,
            ],
        ),
        (
            &every,
            [
                0x9b05_a0b3,
                0xd020_41d0,
                0xa590_a58f,
                0x0000_387b,
                0xb87b_99ac,
                0xef08_e18c,
                0x9356_74e2,
                0xa32b_64ac,
                0x1499_8622,
                0xa058_b0f8,
                0x0532_36c0,
                0x883f_f30a,
            ],
        ),
        (
            b"\xff",
            [
                0xae65_a494,
                0xd44f_5900,
                0x0000_1ef0,
                0x0000_7f00,
                0xff00_0000,
                0x79fe_4820,
                0x79fe_466e,
                0xfaf3_a2e0,
                0xf9f3_a14e,
                0x02a6_dba8,
                0xdb53_0a9c,
                0xe196_4da8,
            ],
        ),
        (
            b"\xff\xfe",
            [
                0xdb2c_b862,
                0x0157_b2f3,
                0x001e_0d2e,
                0x0000_08f8,
                0x88f8_3096,
                0xb4eb_719e,
                0xb4ee_4fb0,
                0x1276_995e,
                0x3579_0f10,
                0xcc30_d943,
                0x0693_f8a9,
                0x0745_33dd,
            ],
        ),
        (
            b"abcd\x80\x81\xff",
            [
                0x9c8a_f03c,
                0xe903_48c6,
                0x9358_b60d,
                0x0000_71e8,
                0x71e8_06b0,
                0x93d3_752b,
                0x5117_d6d7,
                0x6aa6_5d4b,
                0x5867_f677,
                0x2d30_23cf,
                0xbb47_b569,
                0xa458_6e2a,
            ],
        ),
        (
            b"123456789",
            [
                0xc66b_58c5,
                0x94e7_f925,
                0x8690_31c3,
                0x0000_4bf4,
                0xcbf4_3926,
                0x2bf9_16d6,
                0x23c6_cdfc,
                0x2414_8816,
                0xbb86_b11c,
                0xe4fc_1670,
                0xb776_0690,
                0x1977_7af6,
            ],
        ),
    ];
    for (key, expected) in table {
        for (hash, expected) in TwemproxyHash::ALL.into_iter().zip(expected) {
            let found = hash.of(key);
            assert_eq!(found, *expected, "{} of {}: {found:#x}", hash.name(), key.escape_ascii());
        }
    }
}

/// MD5 of RFC 1321, SHA-1 of RFC 3174, the check value of CRC-32, and XXH3 as memcached's proxy prints it.
#[test]
fn digests_are_those_of_their_standards() {
    // 900150983cd24fb0d6963f7d28e17f72
    assert_eq!(md5(b"abc"), [0x9850_0190, 0xb04f_d23c, 0x7d3f_96d6, 0x727f_e128]);
    // a9993e364706816aba3e25717850c26c9cd0d89d
    assert_eq!(sha1(b"abc"), 0xa999_3e36);
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(xxh3_64(b"key0"), 0x74d9_35ed_0202_1ec6);
}

/// The example of Java's own documentation of `hashCode`, `s[0]*31^(n-1) + ... + s[n-1]`, by hand; two code
/// units for what lies beyond the first 65,536 code points; and what Java reads in place of broken UTF-8.
#[test]
fn java_hashes_code_units() {
    assert_eq!(small::java(b""), 0);
    assert_eq!(small::java(b"ab"), 97 * 31 + 98);
    assert_eq!(small::java("\u{e9}".as_bytes()), 0xe9);
    assert_eq!(small::java("\u{1f600}".as_bytes()), 0xd83d * 31 + 0xde00);
    assert_eq!(small::java(b"\xff"), 0xfffd);
    assert_eq!(
        KeyHash::Java.of(&[b'z'; 250]),
        (0..250).fold(0_u32, |hash, _| hash.wrapping_mul(31).wrapping_add(122))
    );
}

#[test]
fn a_crc_of_nothing_counts_as_one_where_the_original_does_so() {
    assert_eq!(KeyHash::Crc32NotZero.of(b""), 1);
    assert_eq!(KeyHash::Twemproxy(Crc32).of(b""), 0);
    assert_eq!(KeyHash::Crc32Positive.of(b"123456789"), 0x4bf4_3926);
}

#[test]
fn mcrouter_hashes_neither_route_nor_what_follows_its_mark() {
    let table: [(&str, &str); 11] = [
        ("key", "key"),
        ("/region/cluster/key", "key"),
        ("/*/*/key", "key"),
        ("//key", "//key"),
        ("/a/key", "/a/key"),
        ("///key", "key"),
        ("a/b/c/key", "a/b/c/key"),
        ("key|#|rest", "key"),
        ("/a/b/key|#|rest|#|more", "key"),
        ("|#|rest", ""),
        ("", ""),
    ];
    for (key, expected) in table {
        assert_eq!(mcrouter_part(key.as_bytes()), expected.as_bytes(), "{key}");
    }
}
