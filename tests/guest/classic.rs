//! The sixteen programs of the old course's fourth lab: what must be seen, how often, in what
//! order.

use abi::Vector;
use tests::{Case, Run, guest, named};
use xtask::images::Flavor;

/// The first environment, and its first child.
const FIRST: &str = "00001000";
const CHILD: &str = "00001001";

pub fn cases() -> Vec<Case> {
    [part_a(), part_b(), part_c()].concat()
}

fn part_a() -> Vec<Case> {
    vec![guest("dumbfork").check(|run| {
        run.count("new env", 2).count("I am the parent!", 10).count("I am the child!", 20);
        let said = |who: &str, times: usize| -> Vec<String> {
            (0..times).map(|i| format!("^{i}: I am the {who}!$")).collect()
        };
        run.in_order(&said("parent", 10)).in_order(&said("child", 20));
        life(run, "00000000", FIRST);
        life(run, FIRST, CHILD);
    })]
}

fn part_b() -> Vec<Case> {
    vec![
        guest("faultread").killed_by(Vector::PAGE_FAULT).check(|run| fault_at_zero(run, 4, "read")),
        guest("faultwrite").killed_by(Vector::PAGE_FAULT).check(|run| fault_at_zero(run, 6, "write")),
        guest("faultdie").check(|run| alone(run, &["i faulted at va deadbeef, err 6"])),
        guest("faultregs").check(|run| {
            let good = run.matching("OK$").len();
            run.expect(good > 0 && good % 2 == 0, format!("{good} lines of good news"));
            run.count("^Registers in UTrapframe OK$", good / 2);
            run.count("^Registers after page-fault OK$", good / 2).never("MISMATCH");
        }),
        // Preempted all the time, and still nothing is lost.
        named("faultregs-preempted", "faultregs").tick(50).check(|run| {
            run.in_order(&["^Registers in UTrapframe OK$", "^Registers after page-fault OK$"])
                .never("MISMATCH");
        }),
        guest("faultalloc").check(|run| {
            alone(
                run,
                &[
                    "fault deadbeef",
                    "this string was faulted in at deadbeef",
                    "fault cafebffe",
                    "fault cafec000",
                    "this string was faulted in at cafebffe",
                ],
            );
        }),
        guest("faultallocbad").check(|run| {
            let seen = [
                "the bare call: .*Fault.*deadbeef.*",
                "fault deadbeef",
                "this string was faulted in at deadbeef",
            ];
            alone(run, &seen);
        }),
        guest("faultnostack").killed_by(Vector::PAGE_FAULT).check(|run| {
            run.in_order(&["^an upcall without a stack: Err.*deadb000", "user fault va 0000000000000000 "]);
            killed(run, "nobody handles it").never("I wrote");
        }),
        guest("faultbadhandler").killed_by(Vector::PAGE_FAULT).check(|run| {
            run.once("^.00001000. user fault va 00000000deadbeef ip 00000000deadbeef$");
            killed(run, "the exception stack is full").never("I wrote");
        }),
        guest("faultevilhandler").check(|run| {
            let refused = |va: &str| format!("an upcall at {va}: .*BadAddress.*{va}.*");
            let seen = [
                refused("ffffffff80100000"),
                refused("800000000000"),
                refused("7f8000000000"),
                "the old upcall still works".to_owned(),
            ];
            alone(run, &seen);
        }),
        guest("forktree").check(forktree),
        named("forktree-by-page", "forktree").args(&["by-page"]).check(forktree),
        named("forktree-small", "forktree").memory("32M").check(forktree),
        guest("forktables").check(|run| {
            run.in_order(&[
                "^three generations wrote, and each saw its own$",
                "^what is shared on purpose stayed shared$",
                "^children became other programs, and their frames came back$",
                "^20 rounds at once$",
            ]);
        }),
        named("forktables-4", "forktables").args(&["2000"]).cpus(4).only(Flavor::Plain).check(|run| {
            run.once("^2000 rounds at once$");
        }),
        named("forktree-preempted", "forktree").tick(100).check(forktree),
    ]
}

fn part_c() -> Vec<Case> {
    vec![
        guest("spin").one_processor().check(|run| {
            run.in_order(&["Forking the child", "Running the child", "Killing the child", "destroying"]);
            // The parent may be preempted before it says that it runs the child.
            run.in_order(&["Forking the child", "I am the child.  Spinning", "Killing the child"]);
            run.once("^.00001000. destroying 00001001$")
                .once("Spinning")
                .once("^.00001000. exiting gracefully$");
            run.once(&freed(CHILD)).once(&freed(FIRST));
        }),
        guest("stresssched").one_processor().check(|run| {
            run.count("stresssched on CPU [0-3]$", 20).count("new env", 21).count("exiting gracefully", 21);
            run.count("free env", 21);
            run.once("^1 of 1 processors ran children$");
        }),
        named("stresssched-4", "stresssched").cpus(4).only(Flavor::Plain).check(|run| {
            run.count("stresssched on CPU [0-3]$", 20).count("free env", 21);
            run.once("^4 of 4 processors ran children$");
        }),
        guest("sendpage").check(|run| {
            run.in_order(&[
                "^00001000 got message: hello child environment! how are you[?]$",
                "^child received correct message$",
                "^00001001 got message: hello parent environment! I'm good.$",
                "^parent received correct message$",
            ]);
            life(run, FIRST, CHILD);
            life(run, "00000000", FIRST);
        }),
        guest("pingpong").check(pingpong),
        named("pingpong-preempted", "pingpong").tick(100).check(pingpong),
        guest("pingpongs").check(pingpong),
        // A checking kernel walks the tables of three hundred environments after every call: too slow.
        guest("primes").timeout(240).only(Flavor::Plain).check(primes),
        guest("yield").check(|run| {
            for id in [FIRST, CHILD, "00001002"] {
                run.once(&format!("^Hello, I am environment {id}.$"));
                let rounds: Vec<_> =
                    (0..5).map(|i| format!("^Back in environment {id}, iteration {i}.$")).collect();
                run.in_order(&rounds).once(&format!("^All done in environment {id}.$"));
            }
            run.count("^Back in", 15);
        }),
        // In real time, a busy host can take the processor away from one of the two just so.
        guest("fairness").icount().check(|run| {
            let from = |id: &str| run.matching(&format!("^00001000 recv from {id}$")).len();
            let (one, other) = (from(CHILD), from("00001002"));
            run.expect(one.min(other) * 3 >= one.max(other), format!("unfair: {one} to {other}"));
            run.expect(one + other >= 20, format!("{} messages", one + other));
        }),
    ]
}

/// The line of the kernel for a slot that is given back.
fn freed(id: &str) -> String {
    format!("^.[0-9a-f]+. free env {id}$")
}

/// Made by `parent`, ended well, given back: once each, in this order.
fn life(run: &Run, parent: &str, id: &str) {
    let lines: [String; 3] =
        [format!("^.{parent}. new env {id}$"), format!("^.{id}. exiting gracefully$"), freed(id)];
    run.in_order(&lines);
    for line in lines {
        run.once(&line);
    }
}

/// One environment that printed these lines, and ended well.
fn alone<P: AsRef<str>>(run: &Run, lines: &[P]) {
    let mut all = vec![r"\[00000000\] new env 00001000".to_owned()];
    all.extend(lines.iter().map(|line| line.as_ref().to_owned()));
    all.push(r"\[00001000\] exiting gracefully".to_owned());
    all.push(r"\[00001000\] free env 00001000".to_owned());
    run.exactly(&all);
}

/// One environment that was destroyed by the kernel, with a line that says why.
fn killed<'a>(run: &'a Run, why: &str) -> &'a Run {
    run.once(&format!("^.00001000. destroyed: .*{why}$")).once(&freed(FIRST)).never("exiting gracefully")
}

fn fault_at_zero(run: &Run, error: u32, access: &str) {
    run.in_order(&[
        "^.00000000. new env 00001000$",
        "^.00001000. user fault va 0000000000000000 ip 00000000002[0-9a-f]{5}$",
        "^  trap 0x0000000e Page Fault$",
        &format!(r"^  err  0x{error:08x} \[user, {access}, not-present\]$"),
    ]);
    killed(run, "Page Fault, and nobody handles it").never("I read").never("I wrote").count("user fault", 1);
}

fn forktree(run: &Run) {
    for depth in 0..=3 {
        for path in 0..1 << depth {
            let path = format!("{path:0depth$b}");
            let path = if depth == 0 { "" } else { &path };
            run.once(&format!("^[0-9a-f]{{8}}: I am '{path}'$"));
        }
    }
    run.count("I am '", 15).count("new env", 15).count("exiting gracefully", 15).count("free env", 15);
    run.in_order(&["new env 0000100[0-9a-f]$", "new env 0000200[0-9a-f]$"]);
    // A child says its name after its parent made it, and ends before its slot is used again.
    for line in run.matching(": I am '") {
        let id = &line[..8];
        run.in_order(&[
            format!("new env {id}$"),
            format!("^{id}: I am"),
            format!("^.{id}. exiting"),
            freed(id),
        ]);
    }
}

fn pingpong(run: &Run) {
    let mut steps = vec![format!("^send 0 from {FIRST} to {CHILD}$")];
    for step in 0..=10 {
        let (to, from) = if step % 2 == 0 { (CHILD, FIRST) } else { (FIRST, CHILD) };
        steps.push(format!("^{to} got {step} from {from}"));
    }
    run.in_order(&steps).count(" got ", 11).count("exiting gracefully", 2);
}

/// A line for each prime number up to 1877, in order, and none for any other number; an environment
/// for each.
fn primes(run: &Run) {
    let is_prime = |n: u32| (2..n).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    let expected: Vec<String> = (2..=1877).filter(|&n| is_prime(n)).map(|n| n.to_string()).collect();
    let found = run.matching("^CPU [0-9]+: [0-9]+$");
    let found: Vec<&str> = found.iter().filter_map(|line| line.split(": ").nth(1)).collect();
    let beyond = found.len().saturating_sub(expected.len());
    run.expect(
        found.len() >= expected.len() && found.iter().zip(&expected).all(|(a, b)| a == b),
        format!("{} primes expected, {} found", expected.len(), found.len()),
    );
    run.expect(beyond <= 1, format!("{beyond} primes beyond 1877"));
    run.expect(run.matching("new env").len() > expected.len(), "an environment for each prime");
}
