//! The programs of the third JOS lab, and the programs that show the page map.

use abi::Vector;
use tests::{Case, Run, graded, guest};

pub fn cases() -> Vec<Case> {
    [killed(), refused(), others()].concat()
}

fn killed() -> Vec<Case> {
    vec![
        guest("divzero").killed_by(Vector::DIVIDE_ERROR).check(|run| dumped(run, 0, "Divide Error")),
        // A user's `int 14` is not a page fault.
        guest("softint").killed_by(Vector::GENERAL_PROTECTION).check(|run| {
            dumped(run, 13, "General Protection");
            run.once("^  err  0x000000[ef]2$").never("user fault");
        }),
        guest("badsegment").killed_by(Vector::GENERAL_PROTECTION).check(|run| {
            dumped(run, 13, "General Protection");
            run.once("^  err  0x00000028");
        }),
        graded("breakpoint"),
        guest("faultreadkernel").killed_by(Vector::PAGE_FAULT).check(|run| kernel_touched(run, 5, "read")),
        guest("faultwritekernel").killed_by(Vector::PAGE_FAULT).check(|run| kernel_touched(run, 7, "write")),
        guest("testbss").killed_by(Vector::PAGE_FAULT).check(|run| {
            run.in_order(&["^Making sure bss works right...$", "^Yes, good.", "user fault va ", "err  0x00000006"]);
            run.never("isn't cleared").never("didn't hold").never("SHOULD HAVE TRAPPED");
        }),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        guest("buggyhello").check(|run| said_only(run, r"write\(1, 1\): Err\(Fault\(1\)\)")),
        guest("buggyhello2").check(|run| said_only(run, r"write\(.., 1048576\): Err\(Fault\([0-9a-f]*000\)\)")),
        guest("evilhello")
            .check(|run| said_only(run, r"write\(0xffff[0-9a-f]+, 100\): Err\(BadAddress\(ffff[0-9a-f]+\)\)")),
    ]
}

fn others() -> Vec<Case> {
    vec![
        guest("hello").check(|run| {
            run.exactly(&[
                r"\[00000000\] new env 00001000",
                "hello, world",
                "i am environment 00001000",
                r"\[00001000\] exiting gracefully",
                r"\[00001000\] free env 00001000",
            ]);
        }),
        graded("uvpt"),
        graded("kernelshare").check(|run| {
            // Both page maps name the same frame if and only if the page table is shared.
            for line in run.matching("the same table$") {
                let words: Vec<&str> = line.split_whitespace().collect();
                run.expect(words.len() > 4 && words[2] == words[4], format!("not the same: {line}"));
            }
        }),
    ]
}

/// Expects one environment that printed one line, and ended well.
fn said_only(run: &Run, line: &str) {
    run.exactly(&[
        r"\[00000000\] new env 00001000",
        line,
        r"\[00001000\] exiting gracefully",
        r"\[00001000\] free env 00001000",
    ]);
}

fn dumped(run: &Run, vector: u8, name: &str) {
    run.in_order(&[
        &format!("^.00001000. user exception {vector} ip 0000000000[0-9a-f]{{6}}$"),
        &format!("^  trap 0x{vector:08x} {name}$"),
        &format!("^.00001000. destroyed: {name}, and nobody handles it$"),
        "^.00001000. free env 00001000$",
    ]);
}

fn kernel_touched(run: &Run, error: u32, access: &str) {
    run.in_order(&[
        "^.00001000. user fault va ffffffff8[0-9a-f]{7} ip 0000000000",
        "^  trap 0x0000000e Page Fault$",
        &format!(r"^  err  0x{error:08x} \[user, {access}, protection\]$"),
        "free env 00001000$",
    ]);
    run.never("I read").never("I wrote");
}
