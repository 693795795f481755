//! The shell, fed from a pipe, and the tour.

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
        guest("tour").icount().check(|run| {
            run.in_order(&["^1[.] ", "^2[.] ", "^3[.] ", "^4[.] ", "^That was the tour"]);
            let lines = run.lines().count();
            run.expect(lines <= 60, format!("the tour takes {lines} lines"));
        }),
    ]
}
