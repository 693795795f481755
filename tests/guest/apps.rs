//! Applications of user-level paging, one program each. The programs check their own work, and fail if it was wrong;
//! these tests check the counts that they print.

use tests::{Case, Run, graded, guest};
use xtask::images::Flavor;

pub fn cases() -> Vec<Case> {
    vec![
        guest("checkpoint").check(checkpoint),
        guest("backtrace").check(backtrace),
        graded("dirtygc"),
        guest("efence").check(efence),
        guest("sqrtpager").check(sqrtpager),
        // Two hundred thousand calls: a checking kernel would walk all page tables after each of them.
        guest("zpager").memory("32M").only(Flavor::Plain).check(zpager),
    ]
}

/// The numbers in the one line that matches the pattern, in its groups.
fn numbers(run: &Run, pattern: &str) -> Vec<u64> {
    let lines = run.matching(pattern);
    run.expect(lines.len() == 1, format!("one line /{pattern}/ expected, found {lines:?}"));
    let pattern = regex::Regex::new(pattern).expect("a pattern");
    let groups = lines.first().and_then(|line| pattern.captures(line));
    let groups = groups.iter().flat_map(|groups| groups.iter().skip(1).flatten());
    groups.map(|group| group.as_str().parse().expect("a number")).collect()
}

/// However a program ends, the active functions are named, and the backtrace ends, too.
fn backtrace(run: &Run) {
    let chain = |child: u32, first: &[&str], ending: &str| {
        let end = ["backtrace::middle", "backtrace::outer", "libos_main", "libos::start::start", "_start"];
        let functions = first.iter().chain(&end).map(|name| format!("^.0000{child}001. in {name}, at 0x"));
        run.in_order(&functions.chain([format!("^a child that {ending}")]).collect::<Vec<_>>());
    };
    chain(1, &[], "panics: panicked$");
    chain(2, &[], "has no value: panicked$");
    chain(3, &[".*"], "reads nothing: killed by exception 14 ");
    chain(4, &["code without a name", ".*"], "calls nothing: killed by exception 14 ");
    chain(5, &[".*"], "has no such instruction: killed by exception 6 ");
    for (child, what) in [(6, "leads nowhere"), (7, "is none"), (8, "is a ring")] {
        run.once(&format!("^.0000{child}001. panicked at user/demo/src/bin/backtrace.rs:.*: on purpose$"));
        run.once(&format!("^.0000{child}001. in backtrace::overwrite, at 0x"));
        run.once(&format!("^a child that has a chain that {what}: panicked$"));
    }
    run.once("^.00009001. panicked while it told of a panic$");
    run.once("^a child that panics about its panic: panicked$");
    run.expect(run.matching("^.0000.001. in ").len() < 60, "a backtrace is too long");
    // Where a backtrace is impossible, the kernel still reports the fault that ended the program.
    let hex = |pattern: &str| {
        let line = run.matching(pattern).first().map_or("", |line| line.rsplit(' ').next().unwrap_or_default());
        let line = line.trim_start_matches("0x");
        u64::from_str_radix(line, 16).unwrap_or_default()
    };
    let (code, fault) = (hex("^this is lost: "), hex("^.0000a001. user fault va "));
    run.expect((code + 1..code + 0x100).contains(&fault), format!("code at {code:#x} is lost, {fault:#x} faulted"));
    run.once("^a child that loses its code: killed by exception 14 ");
}

/// Each page is saved exactly once, by the sweep or by a fault.
fn checkpoint(run: &Run) {
    let at_once = numbers(run, "^checkpoint: ([0-9]+) of 256 pages are there, in ([0-9]+) runs$");
    let later = "^meanwhile ([0-9]+) writes: ([0-9]+) pages saved by the sweep, ([0-9]+) by faults, ([0-9]+) are new$";
    let (&[pages, runs], &[writes, swept, by_faults, new]) = (&at_once[..], &numbers(run, later)[..]) else {
        return;
    };
    run.expect(pages == swept + by_faults, format!("{pages} pages, {swept} + {by_faults} saved"));
    run.expect(writes == 2 * swept && by_faults > 20 && new > 20, "the program goes on meanwhile");
    run.expect(1 < runs && runs < pages, format!("{runs} runs"));
    run.in_order(&[
        "^checkpoint: ",
        "^meanwhile ",
        "^the snapshot is as the memory was, and the memory as it was written$",
    ]);
}

fn efence(run: &Run) {
    run.in_order(&[
        "^1000 blocks on 1415 pages: 1415 faults, 14[0-9]{2} frames$",
        "^all given back: [0-9]+ frames remain,",
        "^efence::write_name, at 0x2[0-9a-f]{5}, writes 0x20000[0-9a-f]{7}, byte 9 of 9: there is nothing$",
        "^efence::add_up, at 0x2[0-9a-f]{5}, reads 0x20000[0-9a-f]{7}, byte 800 of 800: there is nothing$",
        "^efence::set_first, at 0x2[0-9a-f]{5}, writes 0x20000[0-9a-f]{7}, byte 0 of 9: it was given back$",
    ]);
    run.never("the sum is").count("^efence::", 3);
}

fn sqrtpager(run: &Run) {
    run.in_order(&[
        "^1024 GiB reserved on a machine of [0-9]+ MiB: [0-3] frames taken$",
        "^the square root of 2 is 1.414214$",
        "^the square root of 144 is 12.000000$",
        "^the square root of 1000000007 is 31622.776712$",
        "^the square root of 137438953471 is 370727.600093$",
        "^1003 pages computed, at most 64 there at a time, [0-9]+ frames taken$",
        "^the square of a root is wrong by [0-9.]+e-16 of it at most$",
        "^the square root of 2 is 1.414214 again$",
    ]);
    // A page that is alone in its part of the address space needs two page tables, too.
    if let [frames] = numbers(run, "^1003 pages .* time, ([0-9]+) frames taken$")[..] {
        run.expect(frames < 3 * 64 + 16, format!("{frames} frames for 64 pages"));
    }
}

/// Every page is compressed once after a write, and not after reads.
fn zpager(run: &Run) {
    let counts =
        |what: &str| numbers(run, &format!("^{what}: ([0-9]+) faults, ([0-9]+) pages evicted, ([0-9]+) compressed$"));
    let size = numbers(run, "^([0-9]+) pages, ([0-9]+) KiB, on a machine of ([0-9]+) KiB$");
    let &[pages, memory, machine] = &size[..] else { return };
    run.expect(memory == 4 * pages && memory == 2 * machine, "twice the machine's memory");
    let written = counts("written");
    run.expect(written == [pages, pages - 256, pages - 256], format!("{pages} pages: {written:?}"));
    let read = counts("read in another order");
    run.expect(read == [2 * pages, 2 * pages - 256, pages], format!("{pages} pages: {read:?}"));
    let changed = counts("one page of 16 changed, and all read again");
    // A changed page may still be resident from before.
    if let [faults, evicted, compressed] = changed[..] {
        let expected = 3 * pages + pages / 16;
        run.expect(expected.abs_diff(faults) < 256, format!("{expected} faults expected, {faults} found"));
        run.expect(evicted == faults - 256, format!("{faults} faults, {evicted} evicted"));
        run.expect(compressed == pages + pages / 16, format!("{pages} pages: {compressed} compressed"));
    }
    run.once("^compressed they take [0-9]+ KiB: 1[0-9] times less$");
}
