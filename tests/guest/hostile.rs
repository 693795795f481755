//! Programs that ask for what must be refused: `user/hostile` does the checking, call by call and
//! error by error; see `GROUPS` in its `main.rs`.

use tests::{Case, named};

/// Every group on its own machine; a small one for those that use up everything.
const GROUPS: [(&str, &str); 17] = [
    ("pages", "128M"),
    ("runs", "128M"),
    ("batches", "128M"),
    ("buffers", "128M"),
    ("envs", "128M"),
    ("regs", "128M"),
    ("ipc", "128M"),
    ("stack", "128M"),
    ("recursion", "128M"),
    ("exceptions", "128M"),
    ("access", "128M"),
    ("tlb", "128M"),
    ("fork", "128M"),
    ("death", "128M"),
    ("orphans", "128M"),
    ("slots", "32M"),
    ("exhaust", "32M"),
];

pub fn cases() -> Vec<Case> {
    GROUPS.into_iter().map(|(group, memory)| hostile(group).memory(memory)).collect()
}

fn hostile(group: &'static str) -> Case {
    named(&format!("hostile-{group}"), "hostile").args(&[group]).check(move |run| {
        run.once(&format!("^{group}: [1-9][0-9]* checks, 0 failed$")).never("^FAILED");
    })
}
