//! Applications of user-level paging, a program for each. The programs check what they do themselves, and fail if it
//! did not hold; here are the counts that they print.

use tests::{Case, Run, guest};

pub fn cases() -> Vec<Case> {
    vec![guest("sqrtpager").check(sqrtpager)]
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
    // A page that is alone in its part of the address space takes two tables, too.
    if let [frames] = numbers(run, "^1003 pages .* time, ([0-9]+) frames taken$")[..] {
        run.expect(frames < 3 * 64 + 16, format!("{frames} frames for 64 pages"));
    }
}
