//! Lines of many environments at the same time.

use crate::kit::{Crew, child, cpus, get, set, until};
use libos::println;

/// How many lines each child prints.
const LINES: usize = 20;

/// Prints lines, which the test checks: `child C of N, line L: ` and many letters, equal in all lines of a child.
pub fn lines() {
    let count = (2 * cpus()).min(20);
    let crew = Crew::new(count, |index| {
        child(move || {
            let letter = char::from(b'a' + index as u8);
            until("the others", || get(0) != 0);
            for line in 0..LINES {
                println!("child {index} of {count}, line {line}: {}", Letters(letter));
            }
        })
    });
    set(0, 1);
    crew.ends();
    println!("console: {count} children, {LINES} lines each");
}

struct Letters(char);

impl core::fmt::Display for Letters {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        (0..120).try_for_each(|_| core::fmt::Write::write_char(f, self.0))
    }
}
