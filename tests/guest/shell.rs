//! The shell, fed from a pipe, and the tour.

use abi::ExitStatus;
use tests::{Case, Disk, guest, named};

pub fn cases() -> Vec<Case> {
    [shell(), input()].concat()
}

/// The input arrives unchanged, followed by an end of input that stays.
fn input() -> Vec<Case> {
    let ends = |case: Case| {
        case.check(|run| {
            run.count("^after the end: None None$", 3)
                .once("^the child: None$")
                .once("^the child ended: exit status 0$");
        })
    };
    let lines = |name: &str, input: &[u8], lines: &'static [&'static str]| {
        ends(named(name, "input").pipes(input)).check(move |run| {
            let found = run.matching("^line [0-9]+: ");
            run.expect(found == lines, format!("{lines:?} expected, {found:?}"));
            run.once(&format!("^{} lines$", lines.len()));
        })
    };
    let every: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(8);
    let long = [&b"x".repeat(10_000)[..], b"\n", &b"y".repeat(300)].concat();
    vec![
        lines("input-empty", b"", &[]),
        lines("input-lf", b"a\n\nb\n", &[r#"line 1: "a""#, r#"line 2: """#, r#"line 3: "b""#]),
        lines("input-unended", b"a\nb", &[r#"line 1: "a""#, r#"line 2: "b""#]),
        lines("input-crlf", b"a\r\nb\rc\r\n", &[r#"line 1: "a\r""#, r#"line 2: "b\rc\r""#]),
        // Ends of transmission, erase keys, escapes, zeros and UTF-8 are data.
        lines(
            "input-control",
            b"a\x04\x7f\x08\x15\n\x04\n\x10\x10\0\x10D\n\xc3\xa4\xff",
            &[
                r#"line 1: "a\x04\x7f\x08\x15""#,
                r#"line 2: "\x04""#,
                r#"line 3: "\x10\x10\x00\x10D""#,
                r#"line 4: "\xc3\xa4\xff""#,
            ],
        ),
        lines("input-long", &long, &["line 1: 10000 bytes, 10000 of them `x`", "line 2: 300 bytes, 0 of them `x`"]),
        ends(named("input-late", "input").args(&["late"]).pipes(&long)).check(|run| {
            run.once("^line 1: 10000 bytes, 10000 of them `x`$").once("^line 2: 300 bytes").once("^2 lines$");
        }),
        ends(named("input-bytes", "input").args(&["bytes"]).pipes(&every)).check(|run| {
            run.once("^2048 bytes, 2048 of them one more than the one before; each value .*8.* to .*8.* times$");
        }),
        // Input that one program leaves is read by the next one.
        named("sh-input", "sh").types("hello\ninput\none\ntwo").check(|run| {
            run.in_order(&["^hello, world", r#"^line 1: "one"$"#, r#"^line 2: "two"$"#, "^2 lines$", "^. $"]);
        }),
    ]
}

fn shell() -> Vec<Case> {
    vec![
        guest("sh").types("help\nhello\necho a  b\nps\nfree\nexit 7\n").exits(7).check(|run| {
            run.in_order(&["help", "hello, world", "^a b$"]).once("^hello, world");
        }),
        named("sh-end-of-input", "sh").types("hello\n").check(|run| {
            run.once("^hello, world");
        }),
        named("sh-unended", "sh").types("hello\nexit 7").exits(7).check(|run| {
            run.once("^hello, world");
        }),
        named("sh-crlf", "sh").types("echo a\r\n\r\necho b\r\n").check(|run| {
            // Three lines, and the end.
            run.once("^a$").once("^b$").count("^[$] ", 4);
        }),
        named("sh-utf8", "sh").types("echo gr\u{fc}n\n").check(|run| {
            run.once("^gr\u{fc}n$").once("^[$] echo gr\u{fc}n$");
        }),
        named("sh-unknown", "sh").types("no-such-program\nhello\n").check(|run| {
            run.in_order(&["no-such-program: no such program", "^hello, world"]);
        }),
        named("sh-killed", "sh").types("faultread\nhello\n").check(|run| {
            run.in_order(&["user fault va 0", "hello, world"]);
        }),
        named("sh-forktree", "sh").types("forktree\n").check(|run| {
            run.count(": I am '", 15);
        }),
        named("sh-foreign", "sh")
            .file("linux", &static_for_linux())
            .file("text", b"#!/bin/sh\necho hello\n")
            .types("linux\nexec linux\ntext\nhello\n")
            .check(|run| {
                let refused = "not a program: it is not linked with libos: .* [(]0x401000[)]$";
                run.count(&format!("^linux: {refused}"), 2);
                run.in_order(&["^text: not a program: it is not an ELF file$", "^hello, world"]);
                run.never("user (fault|exception)");
            }),
        named("first-foreign", "linux").file("linux", &static_for_linux()).exits(ExitStatus::TOOL_FAILED.0).check(
            |run| {
                let refused = "not a program: it is not linked with libos: .* [(]0x401000[)]$";
                run.once(&format!("^cannot start the first program, \"linux\": {refused}"));
            },
        ),
        guest("tour").icount().check(|run| {
            run.in_order(&["^1[.] ", "^2[.] ", "^3[.] ", "^4[.] ", "^That was the tour"]);
            let lines = run.lines().count();
            run.expect(lines <= 60, format!("the tour takes {lines} lines"));
        }),
        guest("tour").called("tour-with-a-disk").icount().disk(Disk::empty("4M")).check(|run| {
            run.in_order(&["^4[.] ", "^5[.] ", "^   256 pages .*: 256 are right$", "^That was the tour"]);
        }),
    ]
}

/// A static Linux program that ends at once, as a linker makes it, without a library.
fn static_for_linux() -> Vec<u8> {
    // mov eax, 60; xor edi, edi; syscall
    const CODE: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Type, machine, version; entry, tables; flags, sizes and counts.
    elf.extend([2, 62, 1, 0].iter().flat_map(|half: &u16| half.to_le_bytes()));
    elf.extend([0x40_1000, 64, 0].iter().flat_map(|word: &u64| word.to_le_bytes()));
    elf.extend([0, 0, 64, 56, 2, 64, 0, 0].iter().flat_map(|half: &u16| half.to_le_bytes()));
    for (flags, at, bytes) in [(4, 0, 176), (5, 0x1000, CODE.len() as u64)] {
        let va = 0x40_0000 + at;
        let words: [u64; 7] = [1 | flags << 32, at, va, va, bytes, bytes, 4096];
        elf.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    elf.resize(0x1000, 0);
    elf.extend(CODE);
    elf
}
