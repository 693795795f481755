//! The shell, fed from a pipe, and the tour.

use abi::ExitStatus;
use tests::{Case, guest, named};

pub fn cases() -> Vec<Case> {
    vec![
        guest("sh").types("help\nhello\necho a  b\nps\nfree\nexit 7\n").exits(7).check(|run| {
            run.in_order(&["help", "hello, world", "^a b$"]).once("^hello, world");
        }),
        named("sh-end-of-input", "sh").types("hello\n").check(|run| {
            run.once("^hello, world");
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
        named("first-foreign", "linux")
            .file("linux", &static_for_linux())
            .exits(ExitStatus::TOOL_FAILED.0)
            .check(|run| {
                let refused = "not a program: it is not linked with libos: .* [(]0x401000[)]$";
                run.once(&format!("^cannot start the first program, \"linux\": {refused}"));
            }),
        guest("tour").icount().check(|run| {
            run.in_order(&["^1[.] ", "^2[.] ", "^3[.] ", "^4[.] ", "^That was the tour"]);
            let lines = run.lines().count();
            run.expect(lines <= 60, format!("the tour takes {lines} lines"));
        }),
    ]
}

/// What a linker makes for Linux of a program that ends at once, without a library.
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
